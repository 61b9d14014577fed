"""The rule that a tool's result follows the call that it answers."""

from __future__ import annotations

from collections.abc import Sequence

from store import carried
from store.errors import Invalid
from store.message import Message


def check(messages: Sequence[Message], where: str = "messages") -> None:
    """Raise `Invalid`, naming the message, for a tool's result without a call before it that it can belong to."""
    called: set[str | None] = set()
    for place, message in enumerate(messages):
        held = carried.load(message.carried)
        called.update(call.get("id") for call in held.get("tool_calls", ()))
        if message.role != "tool":
            continue
        answered = held.get("tool_call_id")
        if not called:
            raise Invalid(
                f"{where}[{place}].role", "tool", "a tool's result after an answer whose `tool_calls` call it"
            )
        if answered is not None and answered not in called and None not in called:
            raise Invalid(f"{where}[{place}].tool_call_id", answered, sorted(id for id in called if id))
