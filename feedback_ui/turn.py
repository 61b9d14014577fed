"""One message of a conversation as the screens hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SYSTEM_ROLES = ("system", "developer")
ROLES = (*SYSTEM_ROLES, "user", "assistant", "tool")
CARRIED = ("tool_calls", "tool_call_id", "name", "reasoning_content", "tools")
"""What a message carries beside its text, by the names of the API."""


@dataclass(frozen=True)
class Turn:
    """One message, and for an answer who gave it; `seconds` is how long it took, `first` until its first token.

    `carried` is what it has beside its text, as the API has it; `thought_s` is how long the model thought, in seconds.
    """

    role: str
    content: str
    release: str = ""
    lane: str = ""
    completion_id: str = ""
    liked: bool | None = None
    seconds: float | None = None
    first: float | None = None
    done: bool = True
    carried: Mapping[str, Any] = field(default_factory=dict, hash=False)
    thought_s: float | None = None

    @property
    def calls(self) -> list[Mapping[str, Any]]:
        """The tool calls of an answer."""
        return list(self.carried.get("tool_calls") or ())

    @property
    def thinking(self) -> str:
        """What the model thought before it answered."""
        return str(self.carried.get("reasoning_content") or "")

    @property
    def says(self) -> bool:
        """Whether the model reads anything of it in a later request: no empty answer, nor one of thinking alone."""
        return self.role != "assistant" or bool(self.content or self.calls)

    def message(self, with_thinking: bool = False) -> dict[str, Any]:
        """Return it as a chat message for the API."""
        dropped = () if with_thinking else ("reasoning_content",)
        kept = {key: value for key, value in self.carried.items() if key not in dropped}
        return {"role": self.role, "content": self.content, **kept}


def read_turn(message: Mapping[str, Any]) -> Turn:
    """Read a message of a conversation as the API returns it."""
    content = message.get("content")
    return Turn(
        role=str(message.get("role", "user")),
        content=content if isinstance(content, str) else "" if content is None else json.dumps(content),
        release=str(message.get("release") or ""),
        lane=str(message.get("lane") or ""),
        completion_id=str(message.get("completion_id") or ""),
        liked=message.get("liked"),
        thought_s=message.get("thought_s"),
        carried={key: message[key] for key in CARRIED if message.get(key)},
    )


def tools_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the definitions of tools that a first message carries as JSON text, none for what is no such list."""
    try:
        found = json.loads(message.get("tools") or "[]")
    except ValueError:
        return []
    return [tool for tool in found if isinstance(tool, dict)] if isinstance(found, list) else []
