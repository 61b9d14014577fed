"""Messages and thumbs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from common.chat_messages import text_of
from trimtab.api.base import Request

Role = Literal["system", "developer", "user", "assistant", "tool"]


class MessageBody(Request):
    """One message of a conversation; content is text, a list of text parts, or null or empty of an assistant's."""

    role: Role
    content: str = Field(max_length=200_000)

    @field_validator("content", mode="before")
    @classmethod
    def _one_text(cls, content: object, info: ValidationInfo) -> object:
        if content is None and info.data.get("role") != "assistant":
            return content
        text = text_of(content)
        return content if text is None else text

    @field_validator("content")
    @classmethod
    def _not_empty(cls, content: str, info: ValidationInfo) -> str:
        if not content and info.data.get("role") != "assistant":
            raise ValueError("it is empty; accepted: text with at least 1 character")
        return content


class LikeRequest(Request):
    """A thumb on one answer: up, down, or (null) taken back."""

    liked: bool | None


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
