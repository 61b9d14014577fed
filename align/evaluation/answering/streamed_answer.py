"""A chat completion that came in pieces, put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.tool_calls import ToolCalls


@dataclass
class StreamedAnswer:
    """What the chunks of one streamed chat completion have said so far: choice 0, and the usage."""

    text: list[str] = field(default_factory=list)
    calls: ToolCalls = field(default_factory=ToolCalls)
    finish_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    error_code: str | None = None

    def add(self, chunk: Mapping[str, Any]) -> bool:
        """Add a chunk; return whether it holds some of the answer."""
        if chunk.get("error"):
            error = chunk["error"]
            parts: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
            self.error, self.error_code = str(parts.get("message") or error), parts.get("code")
            return False
        self.usage = chunk.get("usage") or self.usage
        said = False
        for choice in chunk.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            delta = choice.get("delta") or {}
            if delta.get("content"):
                self.text.append(delta["content"])
                said = True
            if calls := delta.get("tool_calls"):
                self.calls.add(calls)
                said = True
            said = said or bool(delta.get("reasoning_content") or delta.get("reasoning"))
        return said

    def answer(self) -> dict[str, Any]:
        """Return the whole as an endpoint gives it that does not stream."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.text)}
        if calls := self.calls.whole():
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return {"choices": [choice], "usage": dict(self.usage)}
