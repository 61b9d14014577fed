"""An answer as it comes in: its text, its thinking and its tool calls, and when each began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.tool_calls import ToolCalls
from feedback_ui.conversation import Turn
from trimtab_client import ChatDelta


class Draft:
    """Collects the pieces of one answer; `started` and the times of `add` are of one clock, in seconds.

    `begun` is the text of an answer that is continued.
    """

    def __init__(self, started: float, begun: str = "") -> None:
        self._started = started
        self._first: float | None = None
        self._thinking_since: float | None = None
        self._thought_until: float | None = None
        self._last: ChatDelta | None = None
        self._text, self._reasoning, self._finish_reason = begun, "", ""
        self._calls = ToolCalls()
        self.characters = 0
        """How much there is to show."""

    @property
    def last(self) -> ChatDelta | None:
        """The newest piece."""
        return self._last

    def add(self, delta: ChatDelta, now: float) -> None:
        """Add the next piece."""
        self._last = delta
        self._finish_reason = delta.finish_reason or self._finish_reason
        answers = bool(delta.text or delta.tool_calls)
        if self._first is None and (answers or delta.reasoning):
            self._first = now - self._started
        if delta.reasoning and self._thinking_since is None:
            self._thinking_since = now
        if answers and self._thought_until is None:
            self._thought_until = now
        self._text += delta.text
        self._reasoning += delta.reasoning
        self._calls.add(delta.tool_calls)
        self.characters += len(delta.text) + len(delta.reasoning) + sum(map(_length, delta.tool_calls))

    def turn(self, now: float, *, done: bool) -> Turn:
        """Return what has come so far as a turn; a finished one says how long it took."""
        carried: dict[str, Any] = {"tool_calls": self._calls.whole(), "reasoning_content": self._reasoning}
        since, until = self._thinking_since, self._thought_until
        last = self._last
        return Turn(
            "assistant",
            self._text,
            last.release if last else "",
            last.lane if last else "",
            last.completion_id if last else "",
            seconds=now - self._started if done else None,
            first=self._first if done else None,
            done=done,
            carried={key: value for key, value in carried.items() if value},
            finish_reason=self._finish_reason,
            thought_s=None if since is None else (now if until is None else until) - since,
        )


def _length(piece: Mapping[str, Any]) -> int:
    function = piece.get("function") or {}
    return len(function.get("name") or "") + len(function.get("arguments") or "")
