"""Whom an erasure has forgotten while something of theirs was under way, so that it does not come back with it.

Ask within the `atomic` that writes. It knows the erasures since the store was opened, and no request is older.
"""

from __future__ import annotations

from datetime import datetime

from store.db.database import Store
from store.db.rows import naive
from store.errors import Conflict


def since(db: Store, name: str | None, began: datetime) -> bool:
    """Say whether a person was forgotten after `began`, so that what began then must not be written any more."""
    return name in db.forgotten and naive(began) <= db.forgotten[name]


def refuse(db: Store, name: str | None, began: datetime | None) -> None:
    """Raise `Conflict` where a person was forgotten after `began`; None began nowhere and can't be late."""
    if began is not None and since(db, name, began):
        raise Conflict(f"{name} was forgotten while this was on its way")
