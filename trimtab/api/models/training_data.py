"""Preference pairs, demonstrations and their imports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from trimtab.api.models.base import View


class RejectedRowView(View):
    """One row that an import refused; `row` counts from 1."""

    row: int
    why: str


class ImportView(View):
    """What an import did."""

    accepted: int
    duplicates: int
    rejected: list[RejectedRowView] = Field(description="the first refused rows")
    rejected_count: int


class PairView(View):
    """One preference pair."""

    id: str
    prompt: list[dict[str, Any]]
    chosen: str
    rejected: str
    weight: float = 1.0
    source: str = ""
    deployment: str | None = None
    created_at: datetime | None = None


class DemonstrationView(View):
    """One demonstration."""

    id: str
    prompt: list[dict[str, Any]]
    completion: str
    source: str = ""
    deployment: str | None = None
    created_at: datetime | None = None
