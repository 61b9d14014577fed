"""The first time through: chat, rank, train, look at what came of it, roll out."""

from __future__ import annotations

from dataclasses import dataclass

from store.db.database import Store
from store.db.record import Record
from store.db.rows import fetch_one

LOOKED = "evaluation.look"
"""What the audit log says of a report that was read."""

_WANTED = {"chat": 1, "rank": 10, "train": 1, "look": 1, "roll_out": 1}


@dataclass(frozen=True, slots=True)
class FirstStep(Record):
    """One step: how often it was done, and how often it is asked for."""

    name: str
    have: int
    wanted: int
    done: bool


def taken(db: Store) -> list[FirstStep]:
    """Return the steps in their order."""
    found = fetch_one(
        db.read(),
        f"""
        select
            (select count(*) from completions where error is null) as chat,
            (select count(*) from votes) as rank,
            (select count(*) from runs) as train,
            (select count(*) from audit where action = '{LOOKED}') as look,
            (select count(*) from deployment_history where action <> 'create') as roll_out
        """,
    )
    return [
        FirstStep(name, int(found[name]), wanted, int(found[name]) >= wanted)
        for name, wanted in _WANTED.items()
    ]
