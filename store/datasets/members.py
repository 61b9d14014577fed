"""The table `members` of a snapshot that is built: chance, and rows that are taken out of it with their reason."""

from __future__ import annotations

from store.db.database import Cursor

CHANCE = "(md5_number_lower($seed || ':' || {0}) / 18446744073709551616.0)"
"""A number from 0 to 1 that `$seed` and a hash decide, as SQL."""


def drop(cursor: Cursor, reason: str, condition: str, params: dict[str, object] | None = None) -> None:
    """Delete the members that meet a condition, and note how many."""
    cursor.execute(f"delete from members where {condition}", params or {})
    gone = cursor.fetchone()
    note(cursor, reason, int(gone[0]) if gone else 0)


def note(cursor: Cursor, reason: str, rows: int) -> None:
    """Note in `dropped` that rows were taken away; nothing where there are none."""
    if rows:
        cursor.execute("insert into dropped values (?, ?)", [reason, rows])
