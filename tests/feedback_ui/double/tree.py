"""The messages of one conversation as a tree, as the store keeps them: a message has its versions beside it."""

from __future__ import annotations

import hashlib
from typing import Any

Message = dict[str, Any]


class Tree:
    """Messages by id, each with the id of its parent."""

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[str, Message]] = {}

    def add(self, messages: list[Message]) -> str:
        """Add a branch; return the id of its end."""
        parent = ""
        for message in messages:
            facts = (parent, message["role"], message.get("content"), message.get("tool_calls"))
            id = hashlib.sha256(repr(facts).encode()).hexdigest()
            self.nodes.setdefault(id, (parent, message))
            parent = id
        return parent

    def branch(self, leaf: str) -> list[Message]:
        """Return the messages from the first to `leaf`, with their versions."""
        found: list[Message] = []
        while leaf:
            parent, message = self.nodes[leaf]
            beside = [id for id, (above, _) in self.nodes.items() if above == parent]
            found.insert(0, {**message, "id": leaf, "versions": beside if len(beside) > 1 else []})
            leaf = parent
        return found

    def through(self, key: str) -> list[Message]:
        """Return the branch that goes on last from a message, or from the answer of a completion."""
        id = next(id for id, (_, m) in self.nodes.items() if key in (id, m.get("completion_id")))
        while below := [one for one, (above, _) in self.nodes.items() if above == id]:
            id = below[-1]
        return self.branch(id)
