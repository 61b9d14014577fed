"""Tool calls of an answer that came in pieces, put together again: for the gateway's record and for evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ToolCalls:
    """Tool calls of one message, in pieces (the deltas of a stream) or whole."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, calls: Sequence[Mapping[str, Any]]) -> None:
        """Add pieces; those of one call have the same `index`, or the same place where none has one."""
        for place, piece in enumerate(calls):
            call = self._calls.setdefault(
                piece.get("index", place), {"type": "function", "function": {"name": "", "arguments": ""}}
            )
            if ident := piece.get("id"):
                call["id"] = ident
            for key, text in (piece.get("function") or {}).items():
                if key in call["function"]:
                    call["function"][key] += text or ""

    def whole(self) -> list[dict[str, Any]]:
        """Return the calls in their order, as a message holds them."""
        return [self._calls[index] for index in sorted(self._calls)]
