"""What the bytes of an answer say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What a response holds: the first choice's text (None without any), the completion's id, usage.

    `carried` is what its message has beside the text: tool calls in OpenAI's form, reasoning (see `store.carried`).
    """

    id: str | None
    text: str | None
    finish_reason: str | None
    usage: Mapping[str, Any]
    carried: Mapping[str, Any] = field(default_factory=dict)


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


def objects(data: bytes, stream: bool) -> list[dict[str, Any]]:
    """Return the JSON objects of a response: one, or one per event of a stream; what cannot be read is left out."""
    texts = [data]
    if stream:
        texts = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: {")]
    found = []
    for text in texts:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue  # the last event of a broken stream
        if isinstance(value, dict):
            found.append(value)
    return found
