"""Erasure of a person: their text and votes leave the store, its exports and every later snapshot.

What goes: what they said, turn by turn, and turns of others that repeat it (store.privacy.quotations); the prompts that
only they brought (store.privacy.prompt_ownership) with every comparison and vote on these; comparisons they asked for
that nobody else voted on; their votes, rewrites, likes and ratings; what they used by day; and pairs and demonstrations that
nothing else supports. A comparison that loses a vote waits for another again. A person is known by every spelling of
the name (store.accounts.names). Of evaluations, the items about such prompts and rows go, with the answers to them; their
figures stay.
Their name in audit, runs, releases, imports and settings of snapshots becomes a pseudonym, as does the name of each key
of theirs beside what was used with it. Parquet files of snapshots that hold their rows are deleted
(store.privacy.erased_files).

A conversation that its owner deleted goes in the same way, without the rest of what they said (`erase_conversations`).

What they say afterwards is new; what was under way is dropped by those who write it, who ask `store.db.erasure_guard`.

Not covered: rows of imports (the importer has to know who is in them), run directories (`runs` names them; the platform
stops these runs and deletes the copies), backups made before, and weights: what trained on them is listed and stays
flagged (`flagged`), and `clean_start` names the adapter that the next run may start from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.accounts import audit, names
from store.accounts.owners import OWNER
from store.db import erasure_guard
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import dumps, fetch_all, fetch_first, loads, scalar, stamp
from store.errors import NotFound
from store.ids import new_id
from store.near_duplicates import index as near
from store.privacy import erased_files
from store.privacy import erasure_steps as steps
from store.rollout import lineage, release_examples
from store.training_data import curation, row_support


@dataclass(frozen=True, slots=True)
class Erasure(Record):
    """What an erasure took away and what had learned from it; of a preview, whose `id` is "", what it would.

    `removed` counts rows by noun, and `of_others` how many of its votes, likes and completions are other people's.
    `releases` are those that learned from these rows ({id, ref, adapter, run}), `snapshots`, `runs` and `jobs` the ids of
    those that held them.
    """

    id: str
    removed: dict[str, int]
    of_others: dict[str, int]
    releases: tuple[dict[str, Any], ...]
    snapshots: tuple[str, ...]
    runs: tuple[str, ...]
    created_at: datetime
    jobs: tuple[str, ...] = ()


class _Undo(Exception):
    """Roll the transaction of a preview back; `report` is what it found."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report


def preview(db: Store, name: str, suggested: Iterable[str] = ()) -> Erasure:
    """Say what `erase_person` would take away, and leave everything as it is; not for inside `atomic`.

    Does the work and takes it back, so writers wait as long as for an erasure. Raises `NotFound`.
    """
    if db.in_transaction:
        raise RuntimeError("a preview can't take back what somebody else's transaction holds")
    try:
        with db.long_work, db.atomic() as cursor:
            report, _ = _erase(db, cursor, name, "", suggested)
            raise _Undo(report)
    except _Undo as undone:
        return _erasure("", undone.report, utcnow())


def erase_person(db: Store, name: str, actor: str | None = None, suggested: Iterable[str] = ()) -> Erasure:
    """Erase a person, under every spelling of the name, in one commit. Raises `NotFound` where the store has nobody.

    `suggested` are the texts of prompts that the platform itself offers: whoever says one does not own it.
    """
    id = new_id("erase")
    with db.long_work:
        with db.atomic() as cursor:
            report, items = _erase(db, cursor, name, id, suggested)
            late = [*names.spellings(name), *steps.keys_of_nobody(cursor)]
            done = _note(db, cursor, id, report, items, actor, late)
            audit.record(
                db, actor, "person.erase", id, {"releases": [row["ref"] for row in report["releases"]]}
            )
        if not db.in_transaction:
            erased_files.delete_erased(db)
    return done


def erase_conversations(db: Store, ids: Iterable[str], suggested: Iterable[str] = ()) -> Erasure:
    """Erase whole conversations, as `erase_person` does with all of a person's, in one commit.

    What was said in them goes with what came of it; prompts that were also said or brought elsewhere stay, and so does
    everything else of their owners. Raises `NotFound` where none of them is there. `suggested` as in `erase_person`.
    """
    id, wanted = new_id("erase"), list(ids)
    with db.long_work:
        with db.atomic() as cursor:
            rows = fetch_all(
                cursor,
                f"select id, given_id, user_name, {OWNER} as owner from conversations where list_contains($ids, id)",
                {"ids": wanted},
            )
            askers = {
                name
                for row in rows
                for name in (names.spellings(row["user_name"]) if row["user_name"] else _own_names(cursor))
            }
            steps.collect_conversations(cursor, [row["id"] for row in rows], sorted(askers), suggested)
            report, items = _take_out(db, cursor, [], id, NotFound("conversation", ", ".join(wanted)))
            late = [erasure_guard.conversation(row["owner"], row["given_id"]) for row in rows]
            done = _note(db, cursor, id, report, items, None, late)
            audit.record(db, None, "conversation.erase", id, {"conversations": [row["id"] for row in rows]})
        if not db.in_transaction:
            erased_files.delete_erased(db)
    return done


def _own_names(cursor: Cursor) -> list[str]:
    """Return the names that comparisons are asked for under by whoever is no person: keys, and this machine's operator."""
    programs = fetch_all(cursor, "select distinct name from keys where user_name is null")
    return ["local", "operator", *(row["name"] for row in programs)]


def _note(
    db: Store,
    cursor: Cursor,
    id: str,
    report: dict[str, Any],
    items: list[str],
    actor: str | None,
    late: list[str],
) -> Erasure:
    """Keep the report of an erasure, and drop what was under way of those in `late`."""
    if items:
        cursor.execute("insert into erased_items select $id, unnest($items)", {"id": id, "items": items})
    now = utcnow()
    cursor.execute(
        "insert into erasures values ($id, $actor, $report, $now)",
        {"id": id, "actor": actor, "report": dumps(report, "report"), "now": now},
    )
    db.after_commit(lambda: db.erased.update(dict.fromkeys(late, now)))
    return _erasure(id, report, now)


def _erase(
    db: Store, cursor: Cursor, name: str, id: str, suggested: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """Take everything of a person away within a transaction; return the report and the ids of the rows that it hit."""
    who = names.spellings(name)
    steps.collect(cursor, who, suggested)
    return _take_out(db, cursor, who, id, NotFound("person", name))


def _take_out(
    db: Store, cursor: Cursor, who: list[str], id: str, nothing: NotFound
) -> tuple[dict[str, Any], list[str]]:
    """Take out what `steps` has collected, of the people `who` and their conversations; raises `nothing` for nothing."""
    removed: dict[str, int] = {}
    of_others = {what: count for what, sql in steps.OF_OTHERS.items() if (count := scalar(cursor, sql))}
    learned = [row for one in who for row in lineage.of_person(db, one)]
    likes = fetch_all(
        cursor,
        """
        select id
        from likes
        where user_name in (from their_names) or completion_id in (select id from their_completions)
            or vote_id in (select id from votes where comparison_id in (select id from their_comparisons))
        """,
    )
    steps.delete_words(cursor, removed)
    steps.reopen(cursor)
    items = sorted([*steps.delete_rows(cursor, removed), *(row["id"] for row in likes)])
    curation.forget(cursor, items)
    row_support.refresh(cursor, steps.tagged(cursor), db.slight_weight)
    jobs, parts = steps.delete_job_parts(cursor, removed)
    steps.delete(
        cursor,
        removed,
        "evaluation_items",
        """
        delete from evaluation_items
        where prompt_hash in (from their_prompts)
            or list_contains($gone, reference)
            or reference in (select id from their_comparisons)
        """,
        {"gone": [*items, *parts]},
    )
    quoting = release_examples.take_out(cursor, items, "from their_prompts")
    removed["release_examples"] = len(quoting)
    learned = [*learned, *lineage.of_items(db, items), *lineage.named(cursor, quoting)]
    learned = list({row["id"]: row for row in learned}.values())
    steps.delete_usage(cursor, id, removed)
    for table, column, what in (
        ("users", "name", "user"),
        ("sessions", "user_name", "sessions"),
        ("keys", "user_name", "keys"),
    ):
        steps.delete(cursor, removed, what, f"delete from {table} where {column} in (from their_names)")
    steps.delete(cursor, removed, "consents", f"delete from consents where owner in ({steps.THEIR_OWNERS})")
    removed["names"] = steps.rename(cursor, who, id)
    if not any(removed.values()):
        raise nothing
    near.erase(cursor)
    held = fetch_all(
        cursor,
        """
        select distinct snapshot_id as id
        from snapshot_members
        where item_id in (select unnest($items::varchar[]))
        order by id
        """,
        {"items": items},
    )
    snapshots = [row["id"] for row in held]
    runs = fetch_all(
        cursor,
        "select id from runs where snapshot in (select unnest($ids::varchar[])) order by id",
        {"ids": snapshots},
    )
    report = {
        "removed": {what: count for what, count in removed.items() if count},
        "of_others": of_others,
        "releases": learned,
        "snapshots": snapshots,
        "runs": [row["id"] for row in runs],
        "jobs": jobs,
    }
    return report, items


def is_known(db: Store, name: str) -> bool:
    """Whether the store holds anything by or about a person of that name: what `erase_person` would find."""
    own = (
        ("users", "name"), ("sessions", "user_name"), ("keys", "user_name"), ("evidence", "person"), ("votes", "rater"),
        ("undone_votes", "rater"), ("skips", "rater"),
        ("likes", "user_name"), ("ratings", "user_name"), ("conversations", "user_name"), ("completions", "user_name"),
    )  # fmt: skip
    who = names.spellings(name)
    places = [
        f"exists (from {table} where list_contains($names, {column}))"
        for table, column in (*own, *steps.NAMED)
    ]
    places.append("exists (from usage where list_contains($holders, holder))")
    places.append("exists (from consents where list_contains($holders, owner))")
    found = scalar(
        db.read(),
        f"select {' or '.join(places)}",
        {"names": who, "holders": [f"user {one}" for one in who]},
    )
    return bool(found)


def list_all(db: Store) -> list[Erasure]:
    """Return every erasure, newest first."""
    rows = fetch_all(db.read(), "select id, report, created_at from erasures order by id desc")
    return [_erasure(row["id"], loads(row["report"]), row["created_at"]) for row in rows]


def runs_touched(db: Store) -> frozenset[str]:
    """Return the ids of the runs whose snapshot, when they took it, held what has been erased since."""
    rows = fetch_all(db.read(), "select unnest(report->>'$.runs[*]') as id from erasures")
    return frozenset(row["id"] for row in rows)


def flagged(db: Store) -> list[dict[str, Any]]:
    """Return the releases whose adapters learned from something erased since: id, ref, adapter, erasures."""
    return fetch_all(
        db.read(),
        """
        select id, deployment || '@' || number as ref, releases.adapter,
            list(erasure_id order by erasure_id) as erasures
        from releases
        join tainted_adapters on tainted_adapters.adapter = releases.adapter
        group by all
        order by ref
        """,
    )


def clean_start(db: Store, adapter: str | None) -> str | None:
    """Return the adapter itself or its nearest ancestor that never saw what has been erased; None is the base model."""
    row = fetch_first(
        db.read(),
        """
        select ancestor
        from adapter_ancestry
        where adapter = $adapter and ancestor not in (select adapter from tainted_adapters)
        order by depth
        limit 1
        """,
        {"adapter": adapter},
    )
    return row["ancestor"] if row else None


def _erasure(id: str, report: dict[str, Any], created_at: datetime) -> Erasure:
    return Erasure(
        id=id,
        removed=report["removed"],
        of_others=report.get("of_others", {}),  # erasures made before these were counted
        releases=tuple(report["releases"]),
        snapshots=tuple(report["snapshots"]),
        runs=tuple(report["runs"]),
        created_at=stamp(created_at),
        jobs=tuple(report.get("jobs", ())),  # erasures made before there were jobs
    )
