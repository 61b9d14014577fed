"""Whose words a prompt is: what a person brought, and nobody else did.

A prompt is theirs where they said it in a conversation or asked for a comparison of it, and nobody else brought it: it
was not said in another conversation (one under the same id counts where it was first), is in no imported row, is not one
that the platform itself suggests, and no comparison says that somebody else brought it. That is a gold question, one
whose prompt who asked for it typed, or one that is older than their own use. Of any other the prompt may have been drawn
from their conversation, and in doubt their words go. With a prompt go those that begin with it, and those of turns of
others that repeat their words (store.privacy.quotations).
"""

from __future__ import annotations

from collections.abc import Iterable

from store.conversations.conversations import prompts_of
from store.db import bulk
from store.db.database import Cursor
from store.db.rows import fetch_all, messages
from store.message import without_reasoning
from store.values import Conversation, Message, conversation_hash


def own_prompts(cursor: Cursor, suggested: Iterable[str] = ()) -> list[str]:
    """Return the hashes of the prompts that hold this person's words alone; `suggested` are texts that the platform offers.

    Within an erasure, which notes names (`askers` too, whose own comparisons keep no prompt), turns and conversations
    before; leaves temporary tables that the next replaces.
    """
    brought = prompts_of(cursor, "their_completions")
    for row in fetch_all(
        cursor,
        """
        select messages, carried, min(created_at) as since
        from comparisons
        where asked_by in (from their_names)
        group by messages, carried
        """,
    ):
        prompt = messages(row["messages"], row["carried"], "messages")
        brought[prompt] = min(row["since"], brought.get(prompt, row["since"]))
    for prompt, since in list(brought.items()):  # clients leave reasoning out of later requests
        brought.setdefault(without_reasoning(prompt), since)
    hashes = {prompt: conversation_hash(prompt) for prompt in brought}
    _note(cursor, "brought", {"prompt_hash": list(hashes.values()), "since": list(brought.values())})
    turns = [
        (hashes[prompt], place, len(prompt), since, message.role, message.content)
        for prompt, since in brought.items()
        for place, message in enumerate(reversed(prompt))
    ]
    columns = ("prompt_hash", "place", "size", "since", "role", "content")
    _note(cursor, "brought_messages", {name: [turn[n] for turn in turns] for n, name in enumerate(columns)})
    others = {row["prompt_hash"] for row in fetch_all(cursor, _OTHERS)}
    others |= {conversation_hash((Message("user", text),)) for text in suggested}
    own = {hash: prompt for prompt, hash in hashes.items() if hash not in others}
    quoted = prompts_of(cursor, "quoting_completions")
    quoting = {conversation_hash(said) for prompt in quoted for said in (prompt, without_reasoning(prompt))}
    return sorted({*own, *quoting, *_longer(cursor, list(own.values()))})


def _longer(cursor: Cursor, own: list[Conversation]) -> set[str]:
    """Return the hashes of prompts of comparisons, pairs, demonstrations and likes that begin with one of their own."""
    if not own:
        return set()
    cursor.execute(
        """
        create or replace temp table own_words as
        select prompt, len(prompt) as size, prompt[1].content as first
        from (select unnest($prompts::struct(role varchar, content varchar)[][]) as prompt)
        """,
        {"prompts": [bulk.plain(prompt) for prompt in own]},
    )
    parts = [
        f"""
        select prompt_hash
        from {table}
        join own_words on {column}[1].content = first
        where len({column}) > size and {column}[1:size] = own_words.prompt {extra}
        """
        for table, column, extra in (
            ("comparisons", "messages", ""),
            ("pairs", "pairs.prompt", "and import_id is null"),
            ("demonstrations", "demonstrations.prompt", "and import_id is null"),
            ("likes", "likes.prompt", "and import_id is null"),
        )
    ]
    return {row["prompt_hash"] for row in fetch_all(cursor, " union ".join(parts))}


def _note(cursor: Cursor, table: str, columns: dict[str, list[object]]) -> None:
    types = {"since": "timestamp", "place": "integer", "size": "integer"}
    given = ", ".join(f"unnest(${name}::{types.get(name, 'varchar')}[]) as {name}" for name in columns)
    cursor.execute(f"create or replace temp table {table} as select {given}", columns)


# The conversations of others are walked from the last message up, as far as they say the same.
_OTHERS = """
    with recursive same as (
        select prompt_hash, place, size, messages.parent_id
        from brought_messages
        join messages using (role, content)
        join conversations on conversations.id = messages.conversation_id
        join completions on completions.prompt_id = messages.id
        where place = 0
            and conversations.id not in (select id from their_conversations)
            and (
                completions.created_at < brought_messages.since
                or conversations.given_id not in (select given_id from shared_ids)
            )
        union
        select prompt_hash, brought_messages.place, size, messages.parent_id
        from same
        join messages on messages.id = same.parent_id
        join brought_messages using (prompt_hash, size, role, content)
        where brought_messages.place = same.place + 1
    )
    select prompt_hash from same where place = size - 1 and parent_id is null
    union
    select prompt_hash
    from brought
    join comparisons using (prompt_hash)
    where coalesce(asked_by not in (from askers), true)
        and (source in ('typed', 'pair') or gold is not null or created_at < since)
    union
    select prompt_hash
    from (
        select prompt_hash, import_id from pairs
        union all
        select prompt_hash, import_id from demonstrations
        union all
        select prompt_hash, import_id from likes
    )
    semi join brought using (prompt_hash)
    where import_id is not null
    """
