"""Conversations as they were held: messages in a tree, and one completion for each answer of a model.

A message's id is the hash of its conversation, parent, role and text, so a client that sends the whole
conversation with each request adds only what is new, and a regenerated answer becomes a sibling. A conversation has one
owner (`store.feedback.conversation_owners`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from typing_extensions import override

from store import carried
from store.accounts import sharing
from store.accounts.owners import OWNER
from store.db import bulk, erasure_guard, redaction
from store.db.database import Cursor, Store
from store.db.record import Record
from store.db.rows import Row, check_limit, fetch_all, fetch_first, fetch_one, naive, run, stamp
from store.errors import Conflict, NotFound
from store.feedback import message_tree, turn_columns
from store.feedback.conversation_owners import find, owned
from store.feedback.ratings import answer_of
from store.feedback.turn import Turn
from store.message import is_blank
from store.training_data import demonstrations, likes
from store.training_data.origin import of_answer
from store.values import Conversation, Demonstration, Message


@dataclass(frozen=True, slots=True)
class MessageRecord(Record):
    """One message of a stored conversation; the completion's facts where a model wrote it."""

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

    @override
    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, with what the message carries (tool calls, reasoning, …) as OpenAI names it."""
        plain = super(MessageRecord, self).to_json()
        return plain | carried.load(plain.pop("carried"))

    def value(self) -> Message:
        """Return the message as a value."""
        return Message(self.role, self.content, self.carried)


@dataclass(frozen=True, slots=True)
class ConversationRecord(Record):
    """A stored conversation: the branch that was answered last, oldest message first.

    In listings `messages` is empty and `title` is the start of the first user message.
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


def record_turns(db: Store, turns: Sequence[Turn]) -> None:
    """Record answers and the conversations they belong to, in one commit.

    A turn recorded before is left alone.
    """
    if not turns:
        return
    turns = [_redacted(db, turn) for turn in turns]
    with db.atomic() as cursor:
        given = {turn.completion_id: turn.conversation_id for turn in turns}
        turns = owned(cursor, turns)
        nodes: turn_columns.Nodes = {}
        links: dict[str, tuple[Turn, str | None, str | None]] = {}
        for turn in turns:
            parent: str | None = None
            for message in turn.messages:
                parent = turn_columns.grow(nodes, turn, parent, message)
            answer = None
            if turn.answer is not None or turn.carried:
                said = Message("assistant", turn.answer or "", turn.carried)
                answer = turn_columns.grow(nodes, turn, parent, said)
            links.setdefault(turn.completion_id, (turn, parent, answer))
        newest = {turn.conversation_id: turn for turn in sorted(turns, key=lambda t: t.created_at)}
        # Looked up and then inserted: `on conflict` adds 2 ms to each statement, `in (select unnest($ids))` of more than
        # 50 ids reads the whole table.
        found = run(
            cursor,
            """
            select 'conversation', id from conversations where list_contains($conversations, id)
            union all select 'message', id from messages where list_contains($messages, id)
            union all select 'completion', id from completions where list_contains($completions, id)
            """,
            {"conversations": list(newest), "messages": list(nodes), "completions": list(links)},
        )
        known = set(found.fetchall())
        _renew(cursor, [turn for id, turn in newest.items() if ("conversation", id) in known])
        bulk.insert_columns(
            cursor,
            {
                "conversations": turn_columns.conversation_columns(
                    [turn for id, turn in newest.items() if ("conversation", id) not in known], given
                ),
                "messages": turn_columns.message_columns(
                    {id: node for id, node in nodes.items() if ("message", id) not in known}
                ),
                "completions": turn_columns.completion_columns(
                    [link for id, link in links.items() if ("completion", id) not in known]
                ),
            },
        )


def like(
    db: Store,
    completion_id: str,
    liked: bool | None,
    user: str | None = None,
    began: datetime | None = None,
    owner: str | None = None,
) -> None:
    """Record that `user` liked an answer, disliked it, or (None) took that back; the last word counts.

    A like makes a demonstration of the answer, and with a dislike an unpaired like (a KTO row); both in this commit. The
    same again changes nothing. `owner` (see `owner_of`) may judge answers of their own alone; None is any. Raises
    `NotFound` for an unknown completion, `Conflict` for one without text and where the user was erased since the request
    came in, at `began` (an aware time).
    """
    with db.atomic() as cursor:
        erasure_guard.raise_if_erased(db, user, began)
        row = answer_of(cursor, completion_id, owner)
        said = Message("assistant", row["content"] or "", row["carried"] or "")
        if is_blank(said) or row["prompt_id"] is None:
            raise Conflict(f"completion {completion_id} has no text to like")
        if _is_liked(cursor, completion_id, liked, user):
            return
        prompt = message_tree.prompt(message_tree.nodes_in(cursor, row["conversation_id"]), row["prompt_id"])
        value = Demonstration(prompt, (said,))
        origin = of_answer(row["release"], row["lane"], row["finish_reason"], row["error"])
        likes.put(cursor, completion_id, value, liked, row["deployment"], user, origin)
        demonstrations.withdraw(cursor, "like", completion_id)
        if liked:
            demonstrations.derive(cursor, value, row["deployment"], "like", completion_id, user, origin)


def _is_liked(cursor: Cursor, completion_id: str, liked: bool | None, user: str | None) -> bool:
    """Return whether a user liked or disliked an answer before, with what that gives rise to."""
    found = fetch_first(
        cursor,
        """
        select liked, user_name
        from likes
        where completion_id = $id
            and (not liked or exists (from evidence where kind = 'like' and ref = $id))
        """,
        {"id": completion_id},
    )
    return found is not None and (found["liked"], found["user_name"]) == (liked, user)


def get(db: Store, id: str, owner: str | None = None) -> ConversationRecord:
    """Return a conversation with the messages of the branch that was answered last. Raises `NotFound`.

    `owner` (see `owner_of`) gets the conversation of their own under that id and nobody else's; None is any.
    """
    cursor = db.read()
    if owner is not None:
        id = find(cursor, id, owner)
    row = fetch_one(
        cursor,
        _CONVERSATIONS + "where conversations.id = $id",
        {"id": id},
        otherwise=NotFound("conversation", id),
    )
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
    nodes = message_tree.nodes_in(cursor, id)
    branch = message_tree.branch(nodes, (last["message_id"] or last["prompt_id"]) if last else None)
    given = {
        c["message_id"]: c
        for c in fetch_all(
            cursor,
            """
            select completions.id, message_id, completions.release, lane, liked, thought_s
            from completions
            left join likes on likes.completion_id = completions.id
            where conversation_id = $id and message_id is not null
            order by completions.created_at, completions.id
            """,
            {"id": id},
        )
    }
    read = []
    for node in branch:
        by = given.get(node["id"], {})
        read.append(
            MessageRecord(
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
            )
        )
    return _conversation(row, tuple(read))


def answers(db: Store, id: str, owner: str | None = None) -> list[Row]:
    """Return every answer of a conversation, of all its branches, oldest first. Raises `NotFound`.

    Rows: completion_id, question (the message that it answers), answer, release (its record id), liked, created_at.
    `owner` as in `get`.
    """
    cursor = db.read()
    if owner is not None:
        id = find(cursor, id, owner)
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
        {"id": id},
    )
    if not rows:
        get(db, id)
    return [{**row, "created_at": stamp(row["created_at"]).isoformat()} for row in rows]


def list_recent(
    db: Store,
    user: str | None = None,
    limit: int = 50,
    owner: str | None = None,
    sources: Sequence[str] | None = None,
    search: str | None = None,
) -> list[ConversationRecord]:
    """Return the conversations answered last, newest first, without their messages.

    Of one user, of one owner (see `owner_of`) or of all; of some sources or of all; with `search` those whose messages,
    of any branch, have that text in them, in upper or lower case.
    """
    rows = fetch_all(
        db.read(),
        _CONVERSATIONS
        + f"""
        where ($user is null or user_name = $user)
            and ($owner is null or {OWNER} = $owner)
            and ($sources::varchar[] is null or list_contains($sources::varchar[], source))
            and (
                $search is null
                or exists (
                    from messages
                    where conversation_id = conversations.id and contains(lower(content), lower($search))
                )
            )
        order by updated_at desc, conversations.id desc
        limit $limit
        """,
        {
            "user": user,
            "owner": owner,
            "sources": None if sources is None else list(sources),
            "search": search or None,
            "limit": check_limit(limit),
        },
    )
    return [_conversation(row) for row in rows]


def recent_prompts(db: Store, limit: int = 100, sources: Sequence[str] | None = None) -> list[Conversation]:
    """Return the newest distinct prompts of conversations that may be shown to raters, newest first.

    Of some sources or of all.
    """
    cursor = db.read()
    shown = "true"
    if not sharing.everybody_agrees(cursor, "show", db.share):
        agrees = sharing.agrees("owner", "show", db.share)
        shown = f"id not in (select completion_id from prompt_owners where not ({agrees}))"
    rows = fetch_all(
        cursor,
        f"""
        select conversation_id, prompt_id
        from completions
        where prompt_id is not null
            and {shown}
            and (
                $sources::varchar[] is null
                or conversation_id in (
                    select id from conversations where list_contains($sources::varchar[], source)
                )
            )
        qualify row_number() over (partition by prompt_id order by created_at desc) = 1
        order by created_at desc, id desc
        limit $limit
        """,
        {
            "sources": None if sources is None else list(sources),
            "limit": check_limit(limit, 10_000),
        },
    )
    prompts: dict[Conversation, None] = {}
    nodes = message_tree.nodes_of(cursor, sorted({row["conversation_id"] for row in rows}))
    for row in rows:
        prompts[message_tree.prompt(nodes[row["conversation_id"]], row["prompt_id"])] = None
    return list(prompts)


def prompts_of(cursor: Cursor, table: str) -> dict[Conversation, datetime]:
    """Return the prompts of the completions whose ids a table holds, and when each was first answered (UTC, naive)."""
    rows = fetch_all(
        cursor,
        f"""
        select conversation_id, prompt_id, min(created_at) as since
        from completions
        where id in (select id from {table}) and prompt_id is not null
        group by all
        """,
    )
    nodes = message_tree.nodes_of(cursor, sorted({row["conversation_id"] for row in rows}))
    found: dict[Conversation, datetime] = {}
    for row in rows:
        prompt = message_tree.prompt(nodes[row["conversation_id"]], row["prompt_id"])
        found[prompt] = min(row["since"], found.get(prompt, row["since"]))
    return found


_CONVERSATIONS = """
    select conversations.id, user_name, deployment, conversations.created_at, updated_at, source, task,
        (select left(content, 80) from messages where conversation_id = conversations.id and role = 'user'
            order by messages.created_at, parent_id nulls first limit 1) as title
    from conversations
    """


def _redacted(db: Store, turn: Turn) -> Turn:
    answer = None if turn.answer is None else redaction.text(db, turn.answer)
    return replace(
        turn,
        messages=redaction.conversation(db, turn.messages),
        answer=answer,
        carried=redaction.carried_text(db, turn.carried),
    )


def _renew(cursor: Cursor, turns: list[Turn]) -> None:
    """Note the newest turns of conversations that are there already."""
    if not turns:
        return
    run(
        cursor,
        """
        update conversations
        set updated_at = greatest(updated_at, given.time),
            deployment = coalesce(given.deployment, conversations.deployment)
        from (
            select unnest($ids) as id, unnest($deployments) as deployment, unnest($times) as time
        ) as given
        where conversations.id = given.id
        """,
        {
            "ids": [turn.conversation_id for turn in turns],
            "deployments": [turn.deployment for turn in turns],
            "times": [naive(turn.created_at) for turn in turns],
        },
    )


def _conversation(row: Row, branch: tuple[MessageRecord, ...] = ()) -> ConversationRecord:
    return ConversationRecord(
        id=row["id"],
        user=row["user_name"],
        deployment=row["deployment"],
        title=row["title"] or "",
        created_at=stamp(row["created_at"]),
        updated_at=stamp(row["updated_at"]),
        messages=branch,
        source=row["source"],
        task=row["task"],
    )
