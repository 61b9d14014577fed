"""Conversations as they were held: messages in a tree, and one completion for each answer of a model.

A message's id is the hash of its conversation, parent, role and text, so a client that sends the whole
conversation with each request adds only what is new, and a regenerated answer becomes a sibling. A conversation has one
owner (`store.conversations.conversation_owners`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from store.accounts import sharing
from store.accounts.owners import owner_of
from store.conversations import message_tree, turn_columns
from store.conversations.conversation_owners import owned
from store.conversations.ratings import answer_of
from store.conversations.turn import Turn
from store.db import bulk, erasure_guard, redaction
from store.db.database import Cursor, Store
from store.db.rows import check_limit, fetch_all, fetch_first, naive, run
from store.errors import Conflict
from store.message import is_blank
from store.training_data import demonstrations, likes
from store.training_data.origin import of_answer
from store.values import Conversation, Demonstration, Message


def record_turns(db: Store, turns: Sequence[Turn]) -> None:
    """Record answers and the conversations they belong to, in one commit.

    A turn recorded before is left alone. One of a conversation that was erased since the turn began is dropped.
    """
    if not turns:
        return
    turns = [_redacted(db, turn) for turn in turns]
    with db.atomic() as cursor:
        given = {turn.completion_id: turn.conversation_id for turn in turns}
        turns = owned(cursor, [turn for turn in turns if not _erased(db, turn)])
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
            and conversation_id not in (select id from conversations where deleted_at is not null)
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


def _erased(db: Store, turn: Turn) -> bool:
    if not db.erased:
        return False
    name = erasure_guard.conversation(owner_of(turn.user, turn.key_id), turn.conversation_id)
    return erasure_guard.erased_since(db, name, turn.created_at)


def _redacted(db: Store, turn: Turn) -> Turn:
    answer = None if turn.answer is None else redaction.text(db, turn.answer)
    return replace(
        turn,
        messages=redaction.conversation(db, turn.messages),
        answer=answer,
        carried=redaction.carried_text(db, turn.carried),
    )


def _renew(cursor: Cursor, turns: list[Turn]) -> None:
    """Note the newest turns of conversations that are there already; one that was deleted before comes back."""
    if not turns:
        return
    run(
        cursor,
        """
        update conversations
        set updated_at = greatest(updated_at, given.time),
            deleted_at = case when given.time > deleted_at then null else deleted_at end,
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
