"""The one name of whoever says something: a person, else the key that was shown, else nobody.

Nobody is whoever speaks without either: in single-user mode, the operator on this machine.
"""

from __future__ import annotations

OWNER = "case when user_name is not null then 'user ' || user_name when key_id is not null then 'key ' || key_id else '' end"
"""The owner of a row of `conversations` or `completions`, in SQL."""


def owner_of(user: str | None, key_id: str | None) -> str:
    """Return the owner of what a person, else a key, says; as `OWNER` in SQL."""
    if user is not None:
        return f"user {user}"
    return f"key {key_id}" if key_id is not None else ""
