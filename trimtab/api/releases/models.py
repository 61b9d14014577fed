"""Releases."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_validator

from trimtab.api.base import Request, View


class ReleaseRequest(Request):
    """Makes a release: a prompt change and a fine-tune are the same kind of thing.

    What is not given comes from the stable release; null or `none` empties it.
    """

    deployment: str
    base: str | None = None
    adapter: str | None = Field(
        default=None, description="an adapter's id, or a local PEFT directory; null or `none`: the base alone"
    )
    system_prompt: str | None = Field(default=None, max_length=100_000, description="null or `none`: none")
    sampling: dict[str, Any] | None = Field(default=None, description="null: the engine's defaults")

    @field_validator("base", "adapter", "system_prompt", "sampling", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        empty = isinstance(value, str) and value.strip().lower() in ("", "none")
        return None if empty else value


class ReleaseView(View):
    """One immutable release."""

    id: str
    name: str
    deployment: str
    number: int
    base: str
    adapter: str | None
    system_prompt: str | None
    sampling: dict[str, Any]
    run: str | None
    lane: Literal["stable", "canary"] | None = None
    parity: dict[str, Any] | None = None
    created_by: str | None = None
    created_at: datetime
    inherited: list[str] | None = None
    inherited_from: str | None = None
    blend: dict[str, Any] | None = Field(
        default=None, description="of a release that was just combined from others"
    )
