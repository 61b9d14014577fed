"""Whose words the prompt of a comparison holds, and whether raters may see them."""

from __future__ import annotations

from collections.abc import Sequence

from store import values
from store.accounts import sharing
from store.accounts.owners import OWNER
from store.db import redaction
from store.db.database import Store
from store.db.rows import fetch_all
from store.errors import Conflict
from store.values import Conversation

NOT_SHARED = "whoever said this does not share it with raters"

# Conversations whose messages equal the given ones: `same` climbs from a last message to the first, one given message
# per step (`above` counts from the end), and `whole` are those that end at a root; then who owns each.
_SAME = """
    with recursive asked as (
        select unnest(range(len($roles::varchar[]))) as above, unnest($roles::varchar[]) as role,
            unnest($texts::varchar[]) as content
    ),
    same as (
        select completions.id, above, messages.parent_id
        from messages
        join asked using (role, content)
        join completions on completions.prompt_id = messages.id
        where above = 0
        union
        select same.id, asked.above, messages.parent_id
        from same
        join messages on messages.id = same.parent_id
        join asked using (role, content)
        where asked.above = same.above + 1
    ),
    whole as (select id from same where above = len($roles::varchar[]) - 1 and parent_id is null)
    select list(distinct owner order by owner) as owners
    from whole
    join prompt_owners on completion_id = whole.id
    group by whole.id
    """


def of_drawn(db: Store, messages: Conversation | Sequence[object]) -> list[str] | None:
    """Return whose words a prompt holds that came from a conversation; None where no conversation has it.

    Of several conversations with the same texts one that may be shown counts. Raises `Conflict` where there is none.
    """
    asked = redaction.conversation(db, values.conversation(messages))
    said = [(m.role, m.content.encode("utf-8", "replace").decode()) for m in reversed(asked)]
    rows = fetch_all(
        db.read(), _SAME, {"roles": [role for role, _ in said], "texts": [text for _, text in said]}
    )
    found = sorted({tuple(row["owners"]) for row in rows}, key=lambda owners: (len(owners), owners))
    for owners in found:
        if sharing.allow(db, owners, "show"):
            return list(owners)
    if found:
        raise Conflict(f"{NOT_SHARED}: draw another prompt")
    return None


def of_turn(db: Store, owner: str, given_id: str, messages: Conversation) -> list[str]:
    """Return whose words an owner's turn holds: their own, and what others said first under its conversation's id.

    `given_id` is the id that the client gave.
    """
    texts = [m.content for m in redaction.conversation(db, messages) if m.role == "user"]
    rows = fetch_all(
        db.read(),
        f"""
        with said as (
            select content, {OWNER} as owner, min(messages.created_at) as since
            from conversations
            join messages on messages.conversation_id = conversations.id
            where given_id = $given and role = 'user' and list_contains($texts::varchar[], content)
            group by content, owner
        )
        select arg_min(owner, since) as owner from said group by content
        """,
        {"given": given_id, "texts": texts},
    )
    return sorted({owner, *(row["owner"] for row in rows)})


def of_row(db: Store, id: str) -> list[str]:
    """Return whose words the prompt of a pair, demonstration or like holds; nobody's of an imported row."""
    rows = fetch_all(
        db.read(),
        """
        select unnest(owners) as owner
        from evidence
        join votes on votes.id = ref
        join comparisons on comparisons.id = comparison_id
        where subject_id = $id
        union
        select owner from evidence join prompt_owners on completion_id = ref where subject_id = $id
        union
        select unnest(owners) from evidence join made_rows on made_rows.id = ref where subject_id = $id
        union
        select owner from likes join prompt_owners using (completion_id) where likes.id = $id
        """,
        {"id": id},
    )
    return sorted(row["owner"] for row in rows)
