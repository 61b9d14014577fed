"""Forgetting a person: their text and votes leave the store, its exports and every later snapshot.

What goes: their conversations, comparisons they asked for or that show a prompt of theirs, with the votes on these;
their votes, rewrites and likes; what they used by day; and pairs and demonstrations that nothing else stands behind.
Their name in audit, runs, releases and imports becomes a pseudonym, as does the name of each key of theirs beside what
was used with it. Parquet files of snapshots that hold their rows are deleted.

What they say afterwards is new; what was under way is dropped by those who write it, who ask `store.forgotten`.

Not covered: rows of imports (the importer knows who is in them), copies in run directories (`runs` names them),
backups made before, and weights: what trained on them is listed and stays flagged (`flagged`), and `clean_start`
names the adapter that the next run may start from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from store import audit, lineage, near
from store.conversations import prompts_of
from store.database import Cursor, Store, utcnow
from store.errors import NotFound
from store.ids import new_id
from store.records import Record
from store.rows import dumps, fetch_all, fetch_one, loads, scalar, stamp

# Every column that names a person and whose row stays.
_NAMED = (
    ("audit", "actor"), ("audit", "subject"), ("runs", "requested_by"), ("releases", "created_by"),
    ("evaluations", "requested_by"), ("adapters", "created_by"), ("imports", "imported_by"),
    ("deployment_history", "actor"), ("comparisons", "asked_by"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Erasure(Record):
    """What an erasure took away and what had learned from it.

    `removed` counts rows by noun; `releases` are those that learned from them ({id, ref, adapter, run}), `snapshots` and
    `runs` the ids of those that held them.
    """

    id: str
    removed: dict[str, int]
    releases: tuple[dict[str, Any], ...]
    snapshots: tuple[str, ...]
    runs: tuple[str, ...]
    created_at: datetime


def erase_person(db: Store, name: str, actor: str | None = None) -> Erasure:
    """Forget a person, in one commit. Raises `NotFound` where the store knows nobody of that name."""
    id = new_id("erase")
    with db.long_work, db.atomic() as cursor:
        removed: dict[str, int] = {}
        _collect(cursor, name)
        learned = lineage.of_person(db, name)
        judged = fetch_all(
            cursor,
            "select id from likes where user_name = $name or completion_id in (select id from their_completions)",
            {"name": name},
        )
        _delete_words(cursor, name, removed)
        items = sorted([*_delete_rows(cursor, removed), *(row["id"] for row in judged)])
        learned = list({row["id"]: row for row in learned + lineage.of_items(db, items)}.values())
        _forget_usage(cursor, name, id, removed)
        for table, column, what in (
            ("users", "name", "user"),
            ("sessions", "user_name", "sessions"),
            ("keys", "user_name", "keys"),
        ):
            _delete(cursor, removed, what, f"delete from {table} where {column} = $name", {"name": name})
        for table, column in _NAMED:
            cursor.execute(
                f"update {table} set {column} = $pseudonym where {column} = $name",
                {"pseudonym": id, "name": name},
            )
            renamed = cursor.fetchone()
            removed["names"] = removed.get("names", 0) + int(renamed[0] if renamed else 0)
        if not any(removed.values()):
            raise NotFound("person", name)
        near.forget(cursor)
        if items:
            cursor.execute("insert into erased_items select $id, unnest($items)", {"id": id, "items": items})
        held = fetch_all(
            cursor,
            """
            select distinct snapshots.id, directory
            from snapshots
            join snapshot_members on snapshot_members.snapshot_id = snapshots.id
            where item_id in (select unnest($items::varchar[]))
            order by snapshots.id
            """,
            {"items": items},
        )
        runs = fetch_all(
            cursor,
            "select id from runs where snapshot in (select unnest($ids::varchar[])) order by id",
            {"ids": [row["id"] for row in held]},
        )
        report = {
            "removed": {what: count for what, count in removed.items() if count},
            "releases": learned,
            "snapshots": [row["id"] for row in held],
            "runs": [row["id"] for row in runs],
        }
        now = utcnow()
        cursor.execute(
            "insert into erasures values ($id, $actor, $report, $now)",
            {"id": id, "actor": actor, "report": dumps(report, "report"), "now": now},
        )
        audit.record(db, actor, "person.erase", id, {"releases": [row["ref"] for row in learned]})
        db.after_commit(lambda: db.forgotten.update({name: now}))
    for row in held:
        for split in ("train", "heldout"):
            (Path(row["directory"]) / f"{split}.parquet").unlink(missing_ok=True)
    return _erasure({"id": id, "report": dumps(report, "report"), "created_at": now})


def knows(db: Store, name: str) -> bool:
    """Whether the store holds anything by or about a person of that name: what `erase_person` would find."""
    own = (("users", "name"), ("sessions", "user_name"), ("keys", "user_name"), ("evidence", "person"),
           ("votes", "rater"), ("likes", "user_name"), ("conversations", "user_name"))  # fmt: skip
    places = [f"exists (from {table} where {column} = $name)" for table, column in (*own, *_NAMED)]
    places.append("exists (from usage where holder = 'user ' || $name)")
    return bool(scalar(db.read(), f"select {' or '.join(places)}", {"name": name}))


def list_all(db: Store) -> list[Erasure]:
    """Return every erasure, newest first."""
    rows = fetch_all(db.read(), "select id, report, created_at from erasures order by id desc")
    return [_erasure(row) for row in rows]


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
    row = fetch_one(
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


def _collect(cursor: Cursor, name: str) -> None:
    """Note which comparisons, completions and prompts are theirs, before anything goes."""
    hashes = prompts_of(cursor, name)
    cursor.execute(
        "create or replace temp table their_prompts as select unnest($h::varchar[]) as prompt_hash",
        {"h": hashes},
    )
    cursor.execute(
        "create or replace temp table their_comparisons as select id, prompt_hash from comparisons "
        "where asked_by = $name or prompt_hash in (from their_prompts)",
        {"name": name},
    )
    cursor.execute(
        "create or replace temp table their_completions as select completions.id from completions "
        "join conversations on conversations.id = conversation_id where conversations.user_name = $name",
        {"name": name},
    )
    cursor.execute("insert into their_prompts select prompt_hash from their_comparisons")


def _delete_words(cursor: Cursor, name: str, removed: dict[str, int]) -> None:
    mine = {"name": name}
    _delete(
        cursor,
        removed,
        "evidence",
        """
        delete from evidence
        where person = $name
            or ref in (select id from their_completions)
            or ref in (select id from votes where rater = $name)
            or ref in (select id from votes where comparison_id in (select id from their_comparisons))
        """,
        mine,
    )
    _delete(
        cursor,
        removed,
        "votes",
        "delete from votes where rater = $name or comparison_id in (select id from their_comparisons)",
        mine,
    )
    _delete(
        cursor,
        removed,
        "candidates",
        "delete from candidates where comparison_id in (select id from their_comparisons)",
    )
    _delete(
        cursor,
        removed,
        "comparisons",
        "delete from comparisons where id in (select id from their_comparisons)",
    )
    _delete(
        cursor,
        removed,
        "likes",
        "delete from likes where user_name = $name or completion_id in (select id from their_completions)",
        mine,
    )
    _delete(
        cursor,
        removed,
        "completions",
        "delete from completions where id in (select id from their_completions)",
    )
    theirs = "(select id from conversations where user_name = $name)"
    _delete(cursor, removed, "messages", f"delete from messages where conversation_id in {theirs}", mine)
    _delete(cursor, removed, "conversations", "delete from conversations where user_name = $name", mine)


def _delete_rows(cursor: Cursor, removed: dict[str, int]) -> list[str]:
    """Delete the pairs and demonstrations that nothing stands behind any more; return their ids."""
    gone: list[str] = []
    for table in ("pairs", "demonstrations"):
        cursor.execute(
            f"""
            delete from {table}
            where import_id is null and (
                prompt_hash in (from their_prompts)
                or not exists (from evidence where subject_id = {table}.id)
            )
            returning id
            """
        )
        ids = [str(row[0]) for row in cursor.fetchall()]
        removed[table] = len(ids)
        gone += ids
    if gone:
        cursor.execute("delete from evidence where subject_id in (select unnest($gone))", {"gone": gone})
    return sorted(gone)


def _forget_usage(cursor: Cursor, name: str, pseudonym: str, removed: dict[str, int]) -> None:
    """Delete what they used; what was used with their keys stays as a sum, since these are about to go by id."""
    _delete(cursor, removed, "usage", "delete from usage where holder = $holder", {"holder": f"user {name}"})
    cursor.execute(
        """
        update usage set name = $pseudonym
        where name = $name or holder in (select id from keys where user_name = $name)
        """,
        {"pseudonym": pseudonym, "name": name},
    )


def _delete(
    cursor: Cursor, removed: dict[str, int], what: str, sql: str, params: dict[str, Any] | None = None
) -> None:
    cursor.execute(sql, params or {})
    row = cursor.fetchone()
    removed[what] = int(row[0]) if row else 0


def _erasure(row: dict[str, Any]) -> Erasure:
    report = loads(row["report"])
    return Erasure(
        id=row["id"],
        removed=report["removed"],
        releases=tuple(report["releases"]),
        snapshots=tuple(report["snapshots"]),
        runs=tuple(report["runs"]),
        created_at=stamp(row["created_at"]),
    )
