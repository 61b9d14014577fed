"""Prompts that people asked and share for training, with whose words they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.accounts import sharing
from store.conversations import message_tree
from store.db.database import Store
from store.db.rows import check_limit, fetch_all
from store.values import Conversation


@dataclass(frozen=True, slots=True)
class TrafficPrompt:
    """A prompt that was asked, and the owners of its words."""

    messages: Conversation
    owners: tuple[str, ...]


def newest(
    db: Store, limit: int, sources: Sequence[str] | None = None, use: sharing.Use = "train"
) -> list[TrafficPrompt]:
    """Return the newest distinct prompts whose owners all share them for a use, newest first.

    Of some sources of conversations or of all. `limit` is of requests: the same prompt asked again comes once.
    """
    cursor = db.read()
    rows = fetch_all(
        cursor,
        f"""
        with asked as (
            select completions.id, conversation_id, prompt_id, completions.created_at,
                list(distinct owner order by owner) as owners
            from completions
            join prompt_owners on completion_id = completions.id
            where prompt_id is not null
                and conversation_id not in (select id from conversations where deleted_at is not null)
                and (
                    $sources::varchar[] is null
                    or conversation_id in (
                        select id from conversations where list_contains($sources::varchar[], source)
                    )
                )
            group by all
        )
        select conversation_id, prompt_id, owners
        from asked
        where {sharing.all_agree("owners", use, db.share)}
        qualify row_number() over (partition by prompt_id order by created_at desc) = 1
        order by created_at desc, id desc
        limit $limit
        """,
        {"sources": None if sources is None else list(sources), "limit": check_limit(limit, 10_000)},
    )
    nodes = message_tree.nodes_of(cursor, sorted({row["conversation_id"] for row in rows}))
    found: dict[Conversation, tuple[str, ...]] = {}
    for row in rows:
        messages = message_tree.prompt(nodes[row["conversation_id"]], row["prompt_id"])
        found.setdefault(messages, tuple(row["owners"]))
    return [
        TrafficPrompt(messages, owners) for messages, owners in found.items() if messages[-1].role == "user"
    ]
