"""Read-only links to conversations, for whoever may sign in and has the link.

A link shows the branch that was answered last when it was made or renewed, and nothing that was said since. Its owner
can take it back; a deleted conversation has none to show.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from store.accounts import audit
from store.conversations import stored_conversations
from store.conversations.conversation_owners import find
from store.conversations.stored_conversations import ConversationRecord
from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import Row, fetch_first, fetch_one, run, stamp
from store.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Link(Record):
    """A link to a conversation, by its token."""

    token: str
    conversation: str
    created_at: datetime


def share(db: Store, id: str, owner: str, actor: str | None = None) -> Link:
    """Make the link of a conversation, or renew what it shows; the token stays until `revoke`.

    Raises `NotFound`, and `Conflict` for a conversation without messages.
    """
    with db.atomic() as cursor:
        found = stored_conversations.get(db, id, owner)
        if not found.messages:
            raise Conflict(f"conversation {id} has no messages to share")
        shown = {"id": found.id, "message": found.messages[-1].id, "now": utcnow()}
        if _row(db, found.id):
            sql = "update conversation_links set message_id = $message, created_at = $now where conversation_id = $id"
        else:
            sql = "insert into conversation_links values ($token, $id, $message, $now)"
            shown["token"] = secrets.token_urlsafe(18)
        run(cursor, sql, shown)
        audit.record(db, actor, "conversation.share", found.id)
        return _link(fetch_one(cursor, _LINKS + "where conversation_id = $id", {"id": found.id}))


def link_of(db: Store, id: str, owner: str) -> Link | None:
    """Return the link of a conversation, None where it has none. Raises `NotFound`."""
    found = stored_conversations.get(db, id, owner)
    row = _row(db, found.id)
    return _link(row) if row else None


def revoke(db: Store, id: str, owner: str, actor: str | None = None) -> None:
    """Take the link of a conversation back, where it has one. Raises `NotFound`."""
    with db.atomic() as cursor:
        found = find(cursor, id, owner)
        if _row(db, found):
            run(cursor, "delete from conversation_links where conversation_id = $id", {"id": found})
            audit.record(db, actor, "conversation.unshare", found)


def read(db: Store, token: str) -> ConversationRecord:
    """Return the conversation of a link as it was shared. Raises `NotFound` for a link that does not lead anywhere."""
    row = fetch_first(db.read(), _LINKS + "where token = $token", {"token": token})
    if row is None:
        raise NotFound("link", token)
    try:
        return stored_conversations.get(db, row["conversation_id"], message=row["message_id"], onwards=False)
    except NotFound:
        raise NotFound("link", token) from None


_LINKS = "select token, conversation_id, message_id, created_at from conversation_links "


def _row(db: Store, id: str) -> Row | None:
    return fetch_first(db.read(), _LINKS + "where conversation_id = $id", {"id": id})


def _link(row: Row) -> Link:
    return Link(row["token"], row["conversation_id"], stamp(row["created_at"]))
