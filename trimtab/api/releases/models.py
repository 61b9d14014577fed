"""Releases."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from trimtab.api.base import Request, View


class ReleaseRequest(Request):
    """Makes a release: a prompt change and a fine-tune are the same kind of thing."""

    deployment: str
    base: str | None = None
    adapter: str | None = Field(default=None, description="an adapter's id, or a local PEFT directory")
    system_prompt: str | None = Field(default=None, max_length=100_000)
    sampling: dict[str, Any] = Field(default_factory=dict)


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
