"""The tree of a conversation's messages: a regenerated answer is a sibling, a branch leads from the first to one."""

from __future__ import annotations

from store.db.database import Cursor
from store.db.rows import Row, fetch_all
from store.values import Conversation, Message


def nodes_in(cursor: Cursor, conversation_id: str) -> dict[str, Row]:
    """Return the messages of a conversation by id."""
    return nodes_of(cursor, [conversation_id])[conversation_id]


def nodes_of(cursor: Cursor, conversation_ids: list[str]) -> dict[str, dict[str, Row]]:
    """Return the messages of conversations by conversation and id."""
    nodes: dict[str, dict[str, Row]] = {id: {} for id in conversation_ids}
    for row in fetch_all(
        cursor,
        """
        select id, conversation_id, parent_id, role, content, carried, created_at
        from messages
        where conversation_id in (select unnest($ids))
        """,
        {"ids": conversation_ids},
    ):
        nodes[row["conversation_id"]][row["id"]] = row
    return nodes


def branch(nodes: dict[str, Row], leaf: str | None) -> list[Row]:
    """Return the messages from the first to `leaf`."""
    found = []
    while leaf is not None and leaf in nodes:
        found.append(nodes[leaf])
        leaf = nodes[leaf]["parent_id"]
    return found[::-1]


def versions(nodes: dict[str, Row]) -> dict[str | None, list[str]]:
    """Return the ids of the messages below each one (None: of the first messages), oldest first."""
    found: dict[str | None, list[str]] = {}
    for node in sorted(nodes.values(), key=lambda node: (node["created_at"], node["id"])):
        found.setdefault(node["parent_id"], []).append(node["id"])
    return found


def newest_leaf(nodes: dict[str, Row], id: str) -> str:
    """Return the last message of the branch that goes on from one by the newest message of each step."""
    below = versions(nodes)
    while id in below:
        id = below[id][-1]
    return id


def prompt(nodes: dict[str, Row], leaf: str | None) -> Conversation:
    """Return the messages from the first to `leaf` as values."""
    return tuple(
        Message(node["role"], node["content"], node["carried"] or "") for node in branch(nodes, leaf)
    )
