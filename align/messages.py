"""Prompts and answers of a snapshot: text, or a list of messages (TRL's conversational form)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def conversation(value: str | Sequence[Mapping[str, str]], role: str) -> list[dict[str, str]]:
    """Return text as one message of `role`, and a list of messages as it is."""
    return [{"role": role, "content": value}] if isinstance(value, str) else [dict(part) for part in value]
