"""Trust: derive again every hash and follow every reference, and list what disagrees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from store.db.database import Cursor, Store
from store.db.record import Record
from store.db.rows import messages
from store.values import Demonstration, PreferencePair

_PAGE = 5000

# (table, column, table whose ids it must be among); null points at nothing and is fine.
_POINTERS = (
    ("messages", "parent_id", "messages"),
    ("messages", "conversation_id", "conversations"),
    ("completions", "conversation_id", "conversations"),
    ("conversation_links", "conversation_id", "conversations"),
    ("conversation_links", "message_id", "messages"),
    ("completions", "prompt_id", "messages"),
    ("completions", "message_id", "messages"),
    ("votes", "comparison_id", "comparisons"),
    ("undone_votes", "comparison_id", "comparisons"),
    ("skips", "comparison_id", "comparisons"),
    ("ratings", "completion_id", "completions"),
    ("releases", "adapter", "adapters"),
    ("deployments", "stable", "releases"),
    ("deployments", "canary", "releases"),
    ("runs", "snapshot", "snapshots"),
    ("run_transitions", "run_id", "runs"),
)

# (noun, what disagrees, query that gives the ids)
_RULES = (
    (
        "comparison",
        "has not two to four candidates",
        "select id from comparisons c "
        "where (select count(*) from candidates where comparison_id = c.id) not between 2 and 4",
    ),
    (
        "comparison",
        "counts other votes than it has",
        "select id from comparisons c "
        "where votes_given <> (select count(*) from votes where comparison_id = c.id)",
    ),
    (
        "evidence",
        "supports nothing that is there",
        "select subject_id from evidence e where not exists (from pairs where id = e.subject_id) "
        "and not exists (from demonstrations where id = e.subject_id)",
    ),
    (
        "evidence",
        "names a vote that is not there",
        "select ref from evidence where kind in ('vote', 'rewrite') and ref not in (select id from votes)",
    ),
    (
        "evidence",
        "names a completion that is not there",
        "select ref from evidence where kind = 'like' and ref not in (select id from completions)",
    ),
    (
        "evidence",
        "names a made row that is not there",
        "select ref from evidence where kind = 'made' and ref not in (select id from made_rows)",
    ),
    (
        "pair",
        "has neither evidence nor import",
        "select id from pairs p "
        "where import_id is null and not exists (from evidence where subject_id = p.id)",
    ),
    (
        "demonstration",
        "has neither evidence nor import",
        "select id from demonstrations d "
        "where import_id is null and not exists (from evidence where subject_id = d.id)",
    ),
    ("pair", "has an id that occurs twice", "select id from pairs group by id having count(*) > 1"),
    (
        "demonstration",
        "has an id that occurs twice",
        "select id from demonstrations group by id having count(*) > 1",
    ),
    (
        "run",
        "is not in the state of its last transition",
        "select id from runs r "
        "where state <> (select arg_max(to_state, seq) from run_transitions where run_id = r.id)",
    ),
    (
        "snapshot",
        "does not have the members it counts",
        "select id from snapshots s where train_rows + heldout_rows <> "
        "(select count(*) from snapshot_members where snapshot_id = s.id)",
    ),
)


@dataclass(frozen=True, slots=True)
class Disagreement(Record):
    """Something that is not as it should be: which noun, which id, and what is wrong."""

    noun: str
    id: str
    what: str


def verify(db: Store, *, files: bool = True) -> list[Disagreement]:
    """Return everything in the store that disagrees with itself; an empty list is a clean bill.

    Checks the content hash of every pair and demonstration, every reference between nouns, and that the files of
    every snapshot are there (unless an erasure took them, or the deletion of an uploaded file, or `files` is false).
    Reads everything: about 15 seconds for 100,000 pairs.
    """
    cursor = db.cursor()
    try:
        cursor.execute("begin")
        return [*_hashes(cursor), *_references(cursor), *(_snapshot_files(cursor) if files else ())]
    finally:
        cursor.close()


def _hashes(cursor: Cursor) -> list[Disagreement]:
    found = []
    for noun, table, parts in (
        ("pair", "pairs", ("prompt", "chosen", "rejected")),
        ("demonstration", "demonstrations", ("prompt", "completion")),
    ):
        cursor.execute(f"select id, content_hash, prompt_hash, carried, {', '.join(parts)} from {table}")
        while rows := cursor.fetchmany(_PAGE):
            for id, content_hash, prompt_hash, packed, *texts in rows:
                read = [messages(text, packed, part) for part, text in zip(parts, texts, strict=True)]
                value = (
                    PreferencePair(read[0], read[1], read[2])
                    if noun == "pair"
                    else Demonstration(read[0], read[1])
                )
                if value.content_hash != content_hash:
                    found.append(Disagreement(noun, id, "its text does not give its content hash"))
                if value.prompt_hash != prompt_hash:
                    found.append(Disagreement(noun, id, "its prompt does not give its prompt hash"))
    return found


def _references(cursor: Cursor) -> list[Disagreement]:
    found = []
    for table, column, target in _POINTERS:
        cursor.execute(
            f"select distinct {column} from {table} t "
            f"where {column} is not null and not exists (from {target} where id = t.{column})"
        )
        found += [Disagreement(table, str(row[0]), f"its {column} is not there") for row in cursor.fetchall()]
    for noun, what, sql in _RULES:
        found += [Disagreement(noun, str(row[0]), what) for row in cursor.execute(sql).fetchall()]
    return found


def _snapshot_files(cursor: Cursor) -> list[Disagreement]:
    erased = {
        row[0] for row in cursor.execute("select unnest(report->>'$.snapshots[*]') from erasures").fetchall()
    }
    # of an uploaded file, whose deletion takes them
    cursor.execute(
        "select id from snapshots where starts_with(deployment, 'file-') "
        "and deployment not in (select name from deployments)"
    )
    erased |= {row[0] for row in cursor.fetchall()}
    found = []
    for id, directory in cursor.execute("select id, directory from snapshots").fetchall():
        for name in ("snapshot.json", "train.parquet", "heldout.parquet"):
            if not (Path(directory) / name).exists() and (id not in erased or name == "snapshot.json"):
                found.append(Disagreement("snapshot", id, f"{name} is not in {directory}"))
    return found
