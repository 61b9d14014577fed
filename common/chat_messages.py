"""What a model reads of a conversation: the rules that gateway, store and training share.

A release puts its own messages (its system prompt) before a conversation that has none, and content that came in
several text parts, or as null, is one text. The gateway sends what `served` returns, the store keeps the same texts, and
training renders them again, so that a model is trained on what it is served with. What the engine changes after that,
right before its chat template, is in `align.training.texts.chat_template`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

SYSTEM_ROLES = ("system", "developer")
MESSAGE_ROLES = (*SYSTEM_ROLES, "user", "assistant", "tool")
REQUEST_ROLES = (*MESSAGE_ROLES, "function")
"""Roles that a request may have; `function` is the deprecated form of `tool` and is stored nowhere."""

# Types of content parts that are text for vLLM, with the key of their text.
TEXT_PARTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}

Messages = Sequence[Mapping[str, Any]]


def text_of(content: object) -> str | None:
    """Return content as the one text that the model reads, None where a part of it is no text.

    Parts are joined with a line break, null is empty.
    """
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        return None
    texts = [part_text(part) for part in content]
    return None if None in texts else "\n".join(text for text in texts if text is not None)


def part_text(part: object) -> str | None:
    """Return the text of a content part: text itself or an object of a type in `TEXT_PARTS`; None for others."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        return None
    key = TEXT_PARTS.get(part.get("type", "text"))
    text = part.get(key) if key else None
    return text if isinstance(text, str) else None


def has_system(messages: Messages) -> bool:
    """Tell whether a conversation brings a system message of its own, which stands in place of the release's."""
    return any(message["role"] in SYSTEM_ROLES for message in messages)


def context_of(system_prompt: str | None) -> list[dict[str, str]]:
    """Return the messages that a release puts before conversations."""
    return [{"role": "system", "content": system_prompt}] if system_prompt else []


def served(messages: Messages, context: Messages) -> list[Mapping[str, Any]]:
    """Return the messages as the engine gets them, after those that the release puts before them."""
    plain = [_plain(message) for message in messages]
    return plain if not context or has_system(messages) else [*context, *plain]


def without_tools(messages: Messages) -> list[Mapping[str, Any]]:
    """Return messages without the definitions of tools that the store keeps with the first."""
    return [
        {key: value for key, value in message.items() if key != "tools"} if "tools" in message else message
        for message in messages
    ]


def tools_of(messages: Messages) -> list[dict[str, Any]] | None:
    """Return the definitions of tools that stored messages carry, None for none.

    A release's own messages may stand before the one that has them.
    """
    found = next((message["tools"] for message in messages if message.get("tools")), None)
    return json.loads(found) if found else None


def _plain(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message.get("content")
    if isinstance(content, str) or (content is None and message.get("tool_calls")):
        return message
    text = text_of(content)
    return message if text is None else {**message, "content": text}
