"""Stored conversations as they are read: a branch of one with its messages, every answer, and the list of them.

A conversation is a tree: a message that was reworded, or answered again, has siblings, its versions. Who reads one
chooses a branch by one of its messages; without that it is the one that was answered last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from typing_extensions import override

from store import carried
from store.accounts.owners import OWNER
from store.conversations import message_tree
from store.conversations.conversation_owners import find
from store.db.database import Cursor, Store
from store.db.record import Record
from store.db.rows import Row, check_limit, fetch_all, fetch_first, fetch_one, stamp
from store.errors import NotFound
from store.values import Message


@dataclass(frozen=True, slots=True)
class MessageRecord(Record):
    """One message of a stored conversation; the completion's facts where a model wrote it.

    `versions` are the ids of the message and its siblings, oldest first; none where it is the only one.
    """

    id: str
    role: str
    content: str
    created_at: datetime
    completion_id: str | None = None
    release: str | None = None
    lane: str | None = None
    liked: bool | None = None
    carried: str = ""
    thought_s: float | None = None
    finish_reason: str | None = None
    versions: tuple[str, ...] = ()

    @override
    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, with what the message carries (tool calls, reasoning, …) as OpenAI names it."""
        plain = super(MessageRecord, self).to_json()
        del plain["carried"]
        return plain | self.carries()

    def carries(self) -> dict[str, Any]:
        """Return what the message carries, as OpenAI names it."""
        return carried.load(self.carried)

    def value(self) -> Message:
        """Return the message as a value."""
        return Message(self.role, self.content, self.carried)


@dataclass(frozen=True, slots=True)
class ConversationRecord(Record):
    """A stored conversation with one of its branches, oldest message first.

    In listings `messages` is empty. `title` is the name that its owner gave, else the start of the first user message;
    `named` says which. `folder`, `pinned` and `deleted_at` are what its owner made of it in their list.
    """

    id: str
    user: str | None
    deployment: str | None
    title: str
    created_at: datetime
    updated_at: datetime
    messages: tuple[MessageRecord, ...] = ()
    source: str | None = None
    task: str | None = None
    named: bool = False
    folder: str | None = None
    pinned: bool = False
    deleted_at: datetime | None = None


def get(
    db: Store, id: str, owner: str | None = None, message: str | None = None, onwards: bool = True
) -> ConversationRecord:
    """Return a conversation with the messages of one branch. Raises `NotFound`, also for a deleted one.

    The branch is the one that was answered last, or the one with a `message` (or the answer of a completion) in it: as it
    went on last from there, or not `onwards`, up to it. `owner` (see `owner_of`) gets the conversation of their own under
    that id and nobody else's; None is any.
    """
    cursor = db.read()
    row = _present(cursor, id, owner)
    id = row["id"]
    nodes = message_tree.nodes_in(cursor, id)
    if message is not None and message not in nodes:
        message = _message_of(cursor, id, message)
    if message is None:
        leaf = _answered_last(cursor, id)
    else:
        leaf = message_tree.newest_leaf(nodes, message) if onwards else message
    branch = message_tree.branch(nodes, leaf)
    versions = message_tree.versions(nodes)
    given = _completions(cursor, id)
    return _conversation(row, tuple(_message(node, given.get(node["id"], {}), versions) for node in branch))


def answers(db: Store, id: str, owner: str | None = None) -> list[Row]:
    """Return every answer of a conversation, of all its branches, oldest first. Raises `NotFound`.

    Rows: completion_id, question (the message that it answers), answer, release (its record id), liked, created_at.
    `owner` as in `get`.
    """
    cursor = db.read()
    rows = fetch_all(
        cursor,
        """
        select completions.id as completion_id, asked.content as question, answered.content as answer,
            completions.release, liked, completions.created_at
        from completions
        join messages as asked on asked.id = prompt_id
        join messages as answered on answered.id = message_id
        left join likes on likes.completion_id = completions.id
        where completions.conversation_id = $id
        order by completions.created_at, completions.id
        """,
        {"id": _present(cursor, id, owner)["id"]},
    )
    return [{**row, "created_at": stamp(row["created_at"]).isoformat()} for row in rows]


def list_recent(
    db: Store,
    user: str | None = None,
    limit: int = 50,
    owner: str | None = None,
    sources: Sequence[str] | None = None,
    search: str | None = None,
    deleted: bool = False,
) -> list[ConversationRecord]:
    """Return the conversations answered last without their messages: those pinned first, then newest first.

    Of one user, of one owner (see `owner_of`) or of all; of some sources or of all; with `search` those whose messages,
    of any branch, or names have that text in them, in upper or lower case. `deleted` gives those deleted and not erased
    yet in the place of the others.
    """
    rows = fetch_all(
        db.read(),
        _CONVERSATIONS
        + f"""
        where ($user is null or user_name = $user)
            and ($owner is null or {OWNER} = $owner)
            and ($sources::varchar[] is null or list_contains($sources::varchar[], source))
            and (deleted_at is not null) = $deleted
            and (
                $search is null
                or contains(lower(coalesce(named, '')), lower($search))
                or exists (
                    from messages
                    where conversation_id = conversations.id and contains(lower(content), lower($search))
                )
            )
        order by coalesce(pinned, false) desc, updated_at desc, conversations.id desc
        limit $limit
        """,
        {
            "user": user,
            "owner": owner,
            "sources": None if sources is None else list(sources),
            "search": search or None,
            "deleted": deleted,
            "limit": check_limit(limit),
        },
    )
    return [_conversation(row) for row in rows]


def listed(cursor: Cursor, id: str) -> ConversationRecord:
    """Return a conversation as in listings, deleted or not. Raises `NotFound`."""
    return _conversation(_row(cursor, id))


_CONVERSATIONS = """
    select conversations.id, user_name, deployment, conversations.created_at, updated_at, source, task, named, folder,
        pinned, deleted_at,
        (select left(content, 80) from messages where conversation_id = conversations.id and role = 'user'
            order by messages.created_at, parent_id nulls first limit 1) as title
    from conversations
    """


def _row(cursor: Cursor, id: str) -> Row:
    return fetch_one(
        cursor,
        _CONVERSATIONS + "where conversations.id = $id",
        {"id": id},
        otherwise=NotFound("conversation", id),
    )


def _present(cursor: Cursor, id: str, owner: str | None) -> Row:
    """Return the row of a conversation that is not deleted. Raises `NotFound`."""
    row = _row(cursor, id if owner is None else find(cursor, id, owner))
    if row["deleted_at"] is not None:
        raise NotFound("conversation", id)
    return row


def _answered_last(cursor: Cursor, id: str) -> str | None:
    last = fetch_first(
        cursor,
        """
        select prompt_id, message_id
        from completions
        where conversation_id = $id
        order by created_at desc, id desc
        limit 1
        """,
        {"id": id},
    )
    return (last["message_id"] or last["prompt_id"]) if last else None


def _message_of(cursor: Cursor, id: str, completion: str) -> str:
    row = fetch_one(
        cursor,
        """
        select coalesce(message_id, prompt_id) as message
        from completions
        where id = $completion and conversation_id = $id
        """,
        {"completion": completion, "id": id},
        otherwise=NotFound("message", completion),
    )
    return str(row["message"])


def _completions(cursor: Cursor, id: str) -> dict[str, Row]:
    """Return the newest completion of each message that has one, by message."""
    return {
        row["message_id"]: row
        for row in fetch_all(
            cursor,
            """
            select completions.id, message_id, completions.release, lane, liked, thought_s, finish_reason
            from completions
            left join likes on likes.completion_id = completions.id
            where conversation_id = $id and message_id is not null
            order by completions.created_at, completions.id
            """,
            {"id": id},
        )
    }


def _message(node: Row, by: Row, versions: dict[str | None, list[str]]) -> MessageRecord:
    siblings = versions[node["parent_id"]]
    return MessageRecord(
        id=node["id"],
        role=node["role"],
        content=node["content"],
        carried=node["carried"] or "",
        created_at=stamp(node["created_at"]),
        completion_id=by.get("id"),
        release=by.get("release"),
        lane=by.get("lane"),
        liked=by.get("liked"),
        thought_s=by.get("thought_s"),
        finish_reason=by.get("finish_reason"),
        versions=tuple(siblings) if len(siblings) > 1 else (),
    )


def _conversation(row: Row, branch: tuple[MessageRecord, ...] = ()) -> ConversationRecord:
    return ConversationRecord(
        id=row["id"],
        user=row["user_name"],
        deployment=row["deployment"],
        title=row["named"] or row["title"] or "",
        created_at=stamp(row["created_at"]),
        updated_at=stamp(row["updated_at"]),
        messages=branch,
        source=row["source"],
        task=row["task"],
        named=row["named"] is not None,
        folder=row["folder"],
        pinned=bool(row["pinned"]),
        deleted_at=stamp(row["deleted_at"]) if row["deleted_at"] else None,
    )
