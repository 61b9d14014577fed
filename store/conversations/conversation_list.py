"""What people make of their list of conversations: names, folders, pins, and deletion with the time to undo it.

All of it is for the owner of a conversation alone (`store.accounts.owners`). A deleted conversation is out of sight at
once and comes back with `restore`, or where its owner says something more in it; `due` names those to be erased by
`store.privacy.conversation_erasure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from store.accounts import audit
from store.conversations import stored_conversations
from store.conversations.conversation_owners import find
from store.conversations.stored_conversations import ConversationRecord
from store.db import redaction, validation
from store.db.database import Cursor, Store, utcnow
from store.db.rows import fetch_all, fetch_first, naive, run
from store.errors import NotFound

MAX_NAME = 200
"""Max characters of a name or a folder."""


@dataclass(frozen=True, slots=True)
class Unset:
    """Stands for a field that a change leaves alone."""


UNSET = Unset()


def change(
    db: Store,
    id: str,
    owner: str,
    title: str | Unset | None = UNSET,
    folder: str | Unset | None = UNSET,
    pinned: bool | Unset = UNSET,
) -> ConversationRecord:
    """Name, file or pin a conversation; None goes back to the first words, and out of the folder.

    Returns it as in listings. Raises `NotFound` and `Invalid`.
    """
    given = {"named": _text(db, "title", title), "folder": _text(db, "folder", folder), "pinned": pinned}
    wanted = {column: value for column, value in given.items() if not isinstance(value, Unset)}
    with db.atomic() as cursor:
        found = _own(cursor, id, owner)
        if wanted:
            columns = ", ".join(f"{column} = ${column}" for column in wanted)
            run(cursor, f"update conversations set {columns} where id = $id", {**wanted, "id": found})
        return stored_conversations.listed(cursor, found)


def delete(db: Store, id: str, owner: str, actor: str | None = None) -> ConversationRecord:
    """Hide a conversation until it is restored or erased; returns it. Raises `NotFound`, also for a deleted one."""
    with db.atomic() as cursor:
        found = _own(cursor, id, owner)
        run(
            cursor,
            "update conversations set deleted_at = $now where id = $id",
            {"now": utcnow(), "id": found},
        )
        audit.record(db, actor, "conversation.delete", found)
        return stored_conversations.listed(cursor, found)


def restore(db: Store, id: str, owner: str, actor: str | None = None) -> ConversationRecord:
    """Take a deletion back, also where there was none; returns the conversation. Raises `NotFound` once it is erased."""
    with db.atomic() as cursor:
        found = find(cursor, id, owner)
        run(cursor, "update conversations set deleted_at = null where id = $id", {"id": found})
        audit.record(db, actor, "conversation.restore", found)
        return stored_conversations.listed(cursor, found)


def due(db: Store, undo_s: float, now: datetime | None = None) -> list[str]:
    """Return the ids of the conversations that were deleted `undo_s` seconds ago or earlier; `now` is an aware time."""
    until = (utcnow() if now is None else naive(now)) - timedelta(seconds=undo_s)
    rows = fetch_all(
        db.read(), "select id from conversations where deleted_at <= $until order by id", {"until": until}
    )
    return [row["id"] for row in rows]


def _own(cursor: Cursor, id: str, owner: str) -> str:
    """Return the id of an owner's conversation that is not deleted. Raises `NotFound`."""
    found = find(cursor, id, owner)
    if fetch_first(
        cursor, "select 1 from conversations where id = $id and deleted_at is not null", {"id": found}
    ):
        raise NotFound("conversation", id)
    return found


def _text(db: Store, field: str, value: Any) -> Any:
    if value is None or isinstance(value, Unset):
        return value
    words = " ".join(validation.text(field, value, MAX_NAME).split())
    return redaction.text(db, words)
