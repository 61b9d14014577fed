"""One turn of a conversation, and how conversations are read from text and from messages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.chat_messages import MESSAGE_ROLES, part_text, text_of
from store import carried, import_notes, message_text
from store.errors import Invalid


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: `role` (one of `MESSAGE_ROLES`), text, and what else it carries.

    `carried` is canonical JSON (store.carried: tool calls, reasoning, …), "" for a plain message.
    """

    role: str
    content: str
    carried: str = ""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the message."""
        return digest((self,))

    def to_json(self) -> dict[str, Any]:
        """Return `{"role", "content"}`, and what it carries."""
        plain = {"role": self.role, "content": self.content}
        return plain | carried.load(self.carried) if self.carried else plain

    @classmethod
    def from_json(cls, value: object, where: str = "message") -> Message:
        """Read `{"role", "content"}`; content is text, a list of text parts, or null of an assistant's message.

        It is kept as the one text that a model reads of it (see `common.chat_messages`), with tool calls, names and
        reasoning (store.carried). ShareGPT's `{"from", "value"}` is read, too. Raises `Invalid`, naming the place `where`,
        for anything else. Other keys are not used.
        """
        if isinstance(value, Message):
            return value
        if not isinstance(value, Mapping):
            raise Invalid(where, value, "an object with role and content")
        value = message_text.as_openai(value, where)
        role = value.get("role")
        if role not in MESSAGE_ROLES:
            raise Invalid(f"{where}.role", role, MESSAGE_ROLES)
        content = value.get("content")
        extra = carried.read(value, where)
        if isinstance(content, list):
            for i, part in enumerate(content):
                if part_text(part) is None:
                    raise Invalid(
                        f"{where}.content[{i}]", part, 'a text part: {"type": "text", "text": "..."}'
                    )
        elif not isinstance(content, str) and not (content is None and role == "assistant"):
            raise Invalid(f"{where}.content", content, "text, or a list of text parts")
        return cls(str(role), unicode_text(text_of(content) or "", f"{where}.content"), extra)


Conversation = tuple[Message, ...]


def conversation(value: object, where: str = "messages", role: str = "user") -> Conversation:
    """Read a conversation from text (one message of `role`) or from a non-empty list of messages.

    Text that holds messages is read as messages, and one message as a list of it. Raises `Invalid` naming the place for
    anything else, and for text that is blank.
    """
    if isinstance(value, str) and (found := message_text.read_messages(value)):
        import_notes.rule("messages_in_text")
        value = found
    if message_text.is_message(value):
        value = [value]
    if isinstance(value, str):
        if not value.strip():
            raise Invalid(where, value, "text that is not blank, or a list of messages")
        return (Message(role, unicode_text(value, where)),)
    if not isinstance(value, Sequence) or not value:
        raise Invalid(where, value, "text, or a list of messages with at least one")
    read = tuple(Message.from_json(item, f"{where}[{i}]") for i, item in enumerate(value))
    for i, message in enumerate(read[1:], 1):
        if message.carried and (tools := carried.load(message.carried).get("tools")):
            raise Invalid(f"{where}[{i}].tools", tools, "none: the first message carries the tools")
    return read


def completion(value: object, where: str) -> Conversation:
    """Read what follows a prompt: text or messages, ending with an assistant message that is not blank."""
    read = conversation(value, where, role="assistant")
    if read[-1].role != "assistant":
        raise Invalid(
            f"{where}[{len(read) - 1}].role", read[-1].role, "assistant (a response ends with the assistant)"
        )
    if is_blank(read[-1]):
        raise Invalid(where, read[-1].content, "a response that is not blank")
    return read


def is_blank(message: Message) -> bool:
    """Return whether a message has neither text nor tool calls."""
    return not message.content.strip() and "tool_calls" not in carried.load(message.carried)


def identity(message: Message) -> tuple[str, str, str]:
    """Return what tells a message from others: all but its reasoning (see `carried.identity`)."""
    return message.role, message.content, carried.identity(message.carried)


def without_reasoning(messages: Conversation) -> Conversation:
    """Return messages as clients send them again: without the reasoning of answers."""
    return tuple(Message(*identity(message)) if message.carried else message for message in messages)


def characters(*parts: Iterable[Message]) -> int:
    """Return how many characters messages hold together."""
    return sum(len(message.content) + len(message.carried) for part in parts for message in part)


def to_json(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return the messages as a list of `{"role", "content"}`, each with what it carries."""
    return [message.to_json() for message in messages]


def unicode_text(text: str, where: str) -> str:
    """Return text that UTF-8 can hold. Raises `Invalid` naming the place."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(where, text, "text that is valid Unicode (in UTF-8; no lone surrogates)") from None
    return text


def digest(*parts: Iterable[Message]) -> str:
    """Hash conversations: each message as role, length and text, so that nothing can pass for a separator."""
    return sha256([said(part) for part in parts])


def said(part: Iterable[Message]) -> str:
    """Return messages as one text, to be hashed: what a message carries only where it carries something."""
    return "".join(
        [
            f"{m.role} {len(m.content)} {m.content}" + (f"+{len(m.carried)} {m.carried}" if m.carried else "")
            for m in part
        ]
    )


def sha256(said: list[str]) -> str:
    """Hash what conversations say."""
    return hashlib.sha256("|".join(said).encode()).hexdigest()
