"""One message of a conversation as the screens hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SYSTEM_ROLES = ("system", "developer")
ROLES = (*SYSTEM_ROLES, "user", "assistant", "tool")
STOPPED = "client_stopped"
"""How an answer ended that the person stopped, as the platform records it."""
_CUT = ("length", STOPPED)
CARRIED = ("tool_calls", "tool_call_id", "name", "reasoning_content", "tools")
"""What a message carries beside its text, by the names of the API."""


@dataclass(frozen=True)
class Turn:
    """One message, and for an answer who gave it; `seconds` is how long it took, `first` until its first token.

    `carried` is what it has beside its text, as the API has it; `thought_s` is how long the model thought, in seconds.
    `id` is the message's where it is known. `versions` are the ids of all messages in its place, oldest first, "" being
    this one's while its own is not known; none where it is the only one. `finish_reason` says how an answer ended.
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
    id: str = ""
    versions: tuple[str, ...] = ()
    finish_reason: str = ""

    @property
    def key(self) -> str:
        """What the platform finds it by: its id, else that of its completion."""
        return self.id or self.completion_id

    @property
    def version(self) -> int:
        """Its place among `versions`, from 0; the last where it is not named there."""
        return self.versions.index(self.id) if self.id in self.versions else len(self.versions) - 1

    @property
    def is_cut(self) -> bool:
        """Whether the answer could go on: it ended at its limit, or was stopped."""
        return self.role == "assistant" and self.done and self.finish_reason in _CUT and bool(self.content)

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
        id=str(message.get("id") or ""),
        versions=tuple(message.get("versions") or ()),
        finish_reason=str(message.get("finish_reason") or ""),
        carried={key: message[key] for key in CARRIED if message.get(key)},
    )


def tools_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the definitions of tools that a first message carries as JSON text, none for what is no such list."""
    try:
        found = json.loads(message.get("tools") or "[]")
    except ValueError:
        return []
    return [tool for tool in found if isinstance(tool, dict)] if isinstance(found, list) else []
