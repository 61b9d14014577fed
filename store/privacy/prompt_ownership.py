"""Whose words a prompt is: what a person brought, and nobody else did.

A prompt is theirs where they said it in a conversation or asked for a comparison of it, and nobody else brought it: it
was not said in another conversation, is in no imported row, is not one that the platform itself suggests, and no
comparison says that somebody else brought it. That is a gold question, one whose prompt who asked for it typed, or one
that is older than their own use. Of any other the prompt may have been drawn from their conversation, and in doubt
their words go.
"""

from __future__ import annotations

from collections.abc import Iterable

from store.db.database import Cursor
from store.db.rows import fetch_all, messages
from store.feedback.conversations import prompts_of
from store.values import Message, conversation_hash


def own_prompts(cursor: Cursor, name: str, suggested: Iterable[str] = ()) -> list[str]:
    """Return the hashes of the prompts that are this person's alone; `suggested` are texts that the platform offers.

    Within a transaction; leaves temporary tables that the next call replaces.
    """
    brought = dict(prompts_of(cursor, name))
    for row in fetch_all(
        cursor,
        "select messages, min(created_at) as since from comparisons where asked_by = $name group by messages",
        {"name": name},
    ):
        prompt = messages(row["messages"])
        brought[prompt] = min(row["since"], brought.get(prompt, row["since"]))
    hashes = {prompt: conversation_hash(prompt) for prompt in brought}
    _note(cursor, "brought", {"prompt_hash": list(hashes.values()), "since": list(brought.values())})
    turns = [
        (hashes[prompt], place, len(prompt), message.role, message.content)
        for prompt in brought
        for place, message in enumerate(reversed(prompt))
    ]
    columns = ("prompt_hash", "place", "size", "role", "content")
    _note(cursor, "brought_messages", {name: [turn[n] for turn in turns] for n, name in enumerate(columns)})
    others = {row["prompt_hash"] for row in fetch_all(cursor, _OTHERS, {"name": name})}
    others |= {conversation_hash((Message("user", text),)) for text in suggested}
    return sorted(set(hashes.values()) - others)


def _note(cursor: Cursor, table: str, columns: dict[str, list[object]]) -> None:
    types = {"since": "timestamp", "place": "integer", "size": "integer"}
    given = ", ".join(f"unnest(${name}::{types.get(name, 'varchar')}[]) as {name}" for name in columns)
    cursor.execute(f"create or replace temp table {table} as select {given}", columns)


# The conversations of others are walked from the last message up, as far as they say the same.
_OTHERS = """
    with recursive same as (
        select prompt_hash, place, size, parent_id
        from brought_messages
        join messages using (role, content)
        join conversations on conversations.id = conversation_id and user_name is distinct from $name
        where place = 0 and messages.id in (select prompt_id from completions)
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
    where asked_by is distinct from $name
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
