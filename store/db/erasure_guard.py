"""Keep a person's data that was under way during their erasure from being written after it.

Ask within the `atomic` that writes. It has the erasures since the store was opened, and no request is older.
"""

from __future__ import annotations

from datetime import datetime

from store.db.database import Store
from store.db.rows import naive
from store.errors import Conflict


def erased_since(db: Store, name: str | None, began: datetime) -> bool:
    """Return whether a person was erased after `began`, so that what began then must not be written any more."""
    return name in db.erased and naive(began) <= db.erased[name]


def conversation(owner: str, given_id: str) -> str:
    """Return the name under which an owner's conversation is erased: by the id that its client gave."""
    return f"conversation {owner} {given_id}"


def raise_if_erased(db: Store, name: str | None, began: datetime | None) -> None:
    """Raise `Conflict` where a person was erased after `began`; None is never too late."""
    if began is not None and erased_since(db, name, began):
        raise Conflict(f"{name} was erased after this request started")
