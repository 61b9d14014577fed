"""A chat completion that came in pieces, put together again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class StreamedAnswer:
    """What the chunks of one streamed chat completion have said so far: choice 0, and the usage."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
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
            for call in delta.get("tool_calls") or ():
                self._add_call(call)
                said = True
            said = said or bool(delta.get("reasoning_content") or delta.get("reasoning"))
        return said

    def _add_call(self, call: Mapping[str, Any]) -> None:
        kept = self.calls.setdefault(int(call.get("index") or 0), {"name": "", "arguments": ""})
        function = call.get("function") or {}
        for name in kept:
            kept[name] += function.get(name) or ""

    def answer(self) -> dict[str, Any]:
        """Return the whole as an endpoint gives it that does not stream."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.text)}
        if self.calls:
            message["tool_calls"] = [
                {"type": "function", "function": self.calls[n]} for n in sorted(self.calls)
            ]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return {"choices": [choice], "usage": dict(self.usage)}
