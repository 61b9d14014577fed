"""Messages of conversations."""

from __future__ import annotations

from store.values import Message


def said(*texts: str) -> tuple[Message, ...]:
    return tuple(Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(texts))
