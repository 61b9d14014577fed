"""What the bytes of an answer say."""

from __future__ import annotations

from collections.abc import Mapping
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
