"""Messages and thumbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from common.chat_messages import part_text, text_of
from store import tool_results, values
from store.conversations.conversation_list import MAX_NAME
from trimtab.api.base import Request

Role = Literal["system", "developer", "user", "assistant", "tool"]


class MessageBody(Request):
    """One message of a conversation; content is text, a list of text parts, or null or empty of an assistant's.

    Tool calls, results and reasoning as in OpenAI's chat completions; the first message may have the conversation's `tools`.
    """

    role: Role
    content: str = Field(max_length=200_000)
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tools: list[dict[str, Any]] | str | None = Field(
        None, description="of the first message: definitions of tools, or their JSON text"
    )

    @field_validator("content", mode="before")
    @classmethod
    def _one_text(cls, content: object, info: ValidationInfo) -> object:
        if content is None and info.data.get("role") != "assistant":
            return content
        text = text_of(content)
        if text is None and isinstance(content, list):
            place = next(n for n, part in enumerate(content) if part_text(part) is None)
            raise ValueError(f"part {place} is no text; accepted: " + 'parts {"type": "text", "text": "..."}')
        return content if text is None else text

    @field_validator("content")
    @classmethod
    def _not_empty(cls, content: str, info: ValidationInfo) -> str:
        if not content and info.data.get("role") not in ("assistant", "tool"):
            raise ValueError("it is empty; accepted: text with at least 1 character")
        return content


def messages_of(
    bodies: Sequence[MessageBody], tools: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Return messages as the store keeps them, the first with `tools`. Raises `Invalid` naming the message and field."""
    given = [body.model_dump(exclude_none=True) for body in bodies]
    if tools:
        given[0]["tools"] = tools
    read = values.conversation(given, "messages")
    tool_results.check(read)
    return values.to_json(read)


class LikeRequest(Request):
    """A thumb on one answer: up, down, or (null) taken back."""

    liked: bool | None


class ConversationChange(Request):
    """What changes of a conversation in its owner's list; what is left out stays."""

    title: str | None = Field(
        None, max_length=MAX_NAME, description="its name; null goes back to the first words"
    )
    folder: str | None = Field(
        None, max_length=MAX_NAME, description="the folder that it is in; null takes it out"
    )
    pinned: bool = Field(False, description="whether it stays on top of the list")


class FeedbackRequest(Request):
    """What somebody says of a recorded answer: a thumb or a number, a comment, or that it beats another.

    Either `completion_id` with `key` and `value`, `text`, or both; or `preferred` and `other`, with a `text` or without.
    """

    completion_id: str | None = Field(None, max_length=200)
    key: str | None = Field(
        None, max_length=64, description="`thumb`, or the name of a number, such as `score`"
    )
    value: Any = Field(
        None, description="of a thumb true, false, 1 or -1, else a finite number; null takes it back"
    )
    text: str | None = Field(None, max_length=20_000, description="a comment; empty takes it back")
    preferred: str | None = Field(None, max_length=200)
    other: str | None = Field(
        None, max_length=200, description="another answer to the same question, with another text"
    )
