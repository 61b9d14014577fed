"""Messages and thumbs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trimtab.api.base import Request

Role = Literal["system", "user", "assistant", "tool"]


class MessageBody(Request):
    """One message of a conversation."""

    role: Role
    content: str = Field(min_length=1, max_length=200_000)


class LikeRequest(Request):
    """A thumb on one answer: up, down, or (null) taken back."""

    liked: bool | None
