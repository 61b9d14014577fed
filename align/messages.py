"""Prompts and answers of a snapshot: text, or a list of messages (TRL's conversational form)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def conversation(value: str | Sequence[Mapping[str, str]], role: str) -> list[dict[str, str]]:
    """Return text as one message of `role`, and a list of messages as it is."""
    return [{"role": role, "content": value}] if isinstance(value, str) else [dict(part) for part in value]


FINISHED = ("stop", "tool_calls", "function_call")
"""Reasons for which an answer ends by itself; one without a known reason counts as finished."""


def was_cut(finish_reason: str | None) -> bool:
    """Tell whether an answer ended before the model had finished it: at its limit, or when the client left."""
    return finish_reason is not None and finish_reason not in FINISHED
