"""Turns as rows: the columns of conversations, messages and completions."""

from __future__ import annotations

import hashlib

from store.carried import identity
from store.conversations.turn import Turn
from store.db.bulk import Columns
from store.db.rows import naive
from store.values import Message

Nodes = dict[str, tuple[Turn, str | None, Message]]
"""Messages by id, each with its turn and the id of its parent."""


def grow(nodes: Nodes, turn: Turn, parent: str | None, message: Message) -> str:
    """Add a message of a turn below its parent and return its id."""
    facts = "\0".join((turn.conversation_id, parent or "", message.role, message.content))
    if message.carried and (also := identity(message.carried)):
        facts += "\0" + also
    node = hashlib.sha256(facts.encode("utf-8", "replace")).hexdigest()
    nodes.setdefault(node, (turn, parent, message))
    return node


def conversation_columns(turns: list[Turn], given: dict[str, str]) -> Columns:
    """Return the rows of conversations; `given` is the id that the client gave, by completion."""
    times = [naive(turn.created_at) for turn in turns]
    return {
        "id": [turn.conversation_id for turn in turns],
        "user_name": [turn.user for turn in turns],
        "key_id": [None if turn.user else turn.key_id for turn in turns],
        "given_id": [given[turn.completion_id] for turn in turns],
        "source": [turn.source for turn in turns],
        "task": [turn.task for turn in turns],
        "deployment": [turn.deployment for turn in turns],
        "created_at": times,
        "updated_at": times,
    }


def message_columns(nodes: Nodes) -> Columns:
    """Return the rows of messages."""
    items = list(nodes.values())
    return {
        "id": list(nodes),
        "conversation_id": [turn.conversation_id for turn, _, _ in items],
        "parent_id": [parent for _, parent, _ in items],
        "role": [message.role for _, _, message in items],
        "content": [_storable(message.content) for _, _, message in items],
        "carried": [_storable(message.carried) or None for _, _, message in items],
        "created_at": [naive(turn.created_at) for turn, _, _ in items],
    }


def completion_columns(links: list[tuple[Turn, str | None, str | None]]) -> Columns:
    """Return the rows of completions, each with its turn and the ids of its prompt and its answer."""
    return {
        "id": [turn.completion_id for turn, _, _ in links],
        "conversation_id": [turn.conversation_id for turn, _, _ in links],
        "prompt_id": [prompt for _, prompt, _ in links],
        "message_id": [answer for _, _, answer in links],
        "deployment": [turn.deployment for turn, _, _ in links],
        "release": [turn.release for turn, _, _ in links],
        "lane": [turn.lane for turn, _, _ in links],
        "model": [turn.model for turn, _, _ in links],
        "user_name": [turn.user for turn, _, _ in links],
        "key_id": [turn.key_id for turn, _, _ in links],
        "prompt_tokens": [turn.prompt_tokens for turn, _, _ in links],
        "completion_tokens": [turn.completion_tokens for turn, _, _ in links],
        "finish_reason": [turn.finish_reason for turn, _, _ in links],
        "first_token_s": [turn.first_token_s for turn, _, _ in links],
        "thought_s": [turn.thought_s for turn, _, _ in links],
        "seconds": [turn.seconds for turn, _, _ in links],
        "error": [turn.error for turn, _, _ in links],
        "created_at": [naive(turn.created_at) for turn, _, _ in links],
    }


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
