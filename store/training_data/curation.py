"""Rows that an operator leaves out of the training data, or approves: with a reason, on the record, reversible.

An excluded row stays in the store and in the snapshots that hold it; later snapshots, exports and counts go without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from store.db import redaction, validation
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import dumps, fetch_all, stamp
from store.errors import Invalid, NotFound
from store.ids import next_ids

Noun = Literal["pairs", "demonstrations", "likes"]
NOUNS: dict[str, str] = {"pairs": "pair", "demonstrations": "demonstration", "likes": "like"}
State = Literal["excluded", "approved"]
STATES: tuple[State, ...] = get_args(State)
_ACTIONS = {"excluded": "exclude", "approved": "approve", None: "restore"}
MOST = 100_000
"""Rows that one call reviews."""


@dataclass(frozen=True, slots=True)
class Review(Record):
    """What was decided about a row, why, by whom and when."""

    state: State
    reason: str
    actor: str | None
    created_at: datetime


def review(
    db: Store, noun: str, ids: Sequence[str], state: State | None, reason: str, actor: str | None
) -> int:
    """Put rows into a state, or back (None); return how many changed. All rows change, or none.

    Rows that are in the state already stay as they are. Raises `NotFound` for the first row that is not there, and
    `Invalid` for the noun, the state, too many rows, or a reason that is blank or longer than 1,000 characters.
    """
    kind = NOUNS[validation.one_of("noun", noun, tuple(NOUNS))]
    if state is not None:
        validation.one_of("state", state, STATES)
    wanted = list(dict.fromkeys(ids))
    if len(wanted) > MOST:
        raise Invalid("ids", len(wanted), f"at most {MOST:,} rows")
    reason = redaction.text(db, validation.text("reason", reason, 1000))
    with db.atomic() as cursor:
        _require(cursor, noun, kind, wanted)
        known = _states(cursor, wanted)
        changed = [id for id in wanted if known.get(id) != state]
        if not changed:
            return 0
        cursor.execute(
            "delete from row_reviews where item_id in (select unnest($ids::varchar[]))", {"ids": changed}
        )
        about: dict[str, Any] = {"ids": changed, "actor": actor, "now": utcnow()}
        if state is not None:
            cursor.execute(
                "insert into row_reviews select unnest($ids::varchar[]), $state, $reason, $actor, $now",
                {**about, "state": state, "reason": reason},
            )
        cursor.execute(
            """
            insert into audit (id, actor, action, subject, detail, created_at)
            select unnest($entries::varchar[]), $actor, $action, unnest($ids::varchar[]), $detail, $now
            """,
            {
                **about,
                "entries": next_ids("audit", len(changed)),
                "action": f"{kind}.{_ACTIONS[state]}",
                "detail": dumps({"reason": reason}, "detail"),
            },
        )
    return len(changed)


def reviews(db: Store, ids: Sequence[str]) -> dict[str, Review]:
    """Return the reviews of rows by id; rows without one are left out."""
    rows = fetch_all(
        db.read(),
        """
        select item_id, state, reason, actor, created_at
        from row_reviews
        where item_id in (select unnest($ids::varchar[]))
        """,
        {"ids": list(ids)},
    )
    return {
        row["item_id"]: Review(row["state"], row["reason"], row["actor"], stamp(row["created_at"]))
        for row in rows
    }


def forget(cursor: Cursor, ids: Sequence[str]) -> None:
    """Delete the reviews of rows that are deleted."""
    if ids:
        cursor.execute(
            "delete from row_reviews where item_id in (select unnest($ids::varchar[]))", {"ids": list(ids)}
        )


def _require(cursor: Cursor, noun: str, kind: str, ids: list[str]) -> None:
    rows = fetch_all(
        cursor,
        f"select id from (select unnest($ids::varchar[]) as id) where id not in (select id from {noun}) limit 1",
        {"ids": ids},
    )
    if rows:
        raise NotFound(kind, rows[0]["id"])


def _states(cursor: Cursor, ids: list[str]) -> dict[str, str]:
    rows = fetch_all(
        cursor,
        "select item_id, state from row_reviews where item_id in (select unnest($ids::varchar[]))",
        {"ids": ids},
    )
    return {row["item_id"]: row["state"] for row in rows}
