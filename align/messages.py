"""Prompts and answers of a snapshot: text, or a list of messages (TRL's conversational form)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

PARTS = ("prompt", "chosen", "rejected", "completion")


def conversation(
    value: str | Sequence[Mapping[str, Any]], role: str, carried: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return text as one message of `role`, and a list of messages as it is.

    `carried` is what its messages carry beside role and text (tool calls, reasoning, names), by place ("0", "1", ...).
    """
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    extra = carried or {}
    return [{**part, **extra.get(str(place), {})} for place, part in enumerate(value)]


def whole_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a snapshot whose parts are message lists, each message with what the row's `carried` says of it."""
    carried = json.loads(record.get("carried") or "{}")
    return {
        name: conversation(value, "user" if name == "prompt" else "assistant", carried.get(name))
        if name in PARTS
        else value
        for name, value in record.items()
    }


FINISHED = ("stop", "tool_calls", "function_call")
"""Reasons for which an answer ends by itself; one without a known reason counts as finished."""


def was_cut(finish_reason: str | None) -> bool:
    """Return whether an answer ended before the model had finished it: at its limit, or when the client left."""
    return finish_reason is not None and finish_reason not in FINISHED
