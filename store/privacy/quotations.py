"""Turns of others that repeat a person's words: those of a conversation that several people shared under one id.

A client sends the whole conversation with each request, so the turn of the second speaker holds what the first one said.
Who said a text first under an id is its author. Within an erasure, which notes `their_completions` and
`their_conversations` before.
"""

from __future__ import annotations

from store.db.database import Cursor
from store.db.rows import scalar


def collect(cursor: Cursor) -> None:
    """Note in `quoting_completions` the turns of others that repeat what the person said first."""
    cursor.execute(
        """
        create or replace temp table shared_ids as
        select given_id
        from conversations
        group by given_id
        having bool_or(id in (select id from their_conversations))
            and bool_or(id not in (select id from their_conversations))
        """
    )
    if not scalar(cursor, "select count(*) from shared_ids"):
        cursor.execute("create or replace temp table quoting_completions (id varchar)")
        return
    # Every text of a user with every turn that stands on it; its author is who brought it first under the id.
    cursor.execute(
        """
        create or replace temp table quoting_completions as
        with recursive above as (
            select completions.id, given_id, completions.created_at, prompt_id as node,
                completions.id in (select id from their_completions) as theirs
            from completions
            join conversations on conversations.id = conversation_id
            where given_id in (from shared_ids) and prompt_id is not null
            union
            select above.id, given_id, above.created_at, parent_id, theirs
            from above
            join messages on messages.id = above.node
            where parent_id is not null
        ),
        said as (
            select above.id, given_id, content, theirs,
                first_value(theirs) over (
                    partition by given_id, content order by above.created_at, above.id
                ) as first_theirs
            from above
            join messages on messages.id = above.node
            where role = 'user'
        )
        select distinct id from said where first_theirs and not theirs
        """
    )


def prune(cursor: Cursor) -> dict[str, int]:
    """Delete what the turns noted by `collect` leave behind in others' conversations, once these turns are gone."""
    cursor.execute(
        """
        create or replace temp table trimmed as
        select id
        from conversations
        where given_id in (from shared_ids) and id not in (select id from their_conversations)
        """
    )
    cursor.execute(
        """
        create or replace temp table standing as
        with recursive up as (
            select unnest([prompt_id, message_id]) as node
            from completions
            where conversation_id in (from trimmed)
            union
            select parent_id from up join messages on messages.id = up.node
        )
        select node from up where node is not null
        """
    )
    counts = {}
    for what, condition in (
        ("messages", "conversation_id in (from trimmed) and id not in (from standing)"),
        (
            "conversations",
            "id in (from trimmed) and not exists (from completions where conversation_id = conversations.id)",
        ),
    ):
        cursor.execute(f"delete from {what} where {condition}")
        row = cursor.fetchone()
        counts[what] = int(row[0]) if row else 0
    return counts
