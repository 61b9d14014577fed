"""Preference pairs, demonstrations and their imports."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from trimtab.api.base import View

Noun = Literal["pairs", "demonstrations", "likes"]


class RejectedRowView(View):
    """One row that an import refused; `row` counts from 1."""

    row: int
    why: str


UnusedColumns = Annotated[
    dict[str, int],
    Field(
        description="columns that were not used, each with the rows of those taken in which it holds something"
    ),
]
Rules = Annotated[
    dict[str, int],
    Field(description="rules that changed how rows were read, each with how many of those taken"),
]


class ImportView(View):
    """What an import did."""

    accepted: int
    duplicates: int
    rejected: list[RejectedRowView] = Field(description="the first refused rows")
    rejected_count: int
    unused_columns: UnusedColumns = Field(default_factory=dict)
    rules: Rules = Field(default_factory=dict)


class ImportOptionsView(View):
    """What a file for one noun may be."""

    formats: list[str] = Field(description="of the rows")
    containers: list[str]


class FileImportView(View):
    """What became of a file's rows; `broke_off` says where it ends too early."""

    accepted: int
    duplicates: int
    rejected: list[dict[str, Any]] = Field(description="the first refused rows: `{row, why}`")
    rejected_count: int
    unused_columns: UnusedColumns = Field(default_factory=dict)
    rules: Rules = Field(default_factory=dict)
    format: str
    container: str
    compression: str | None
    broke_off: str | None
    dry_run: bool
    rejects: str | None = Field(
        None, description="the file of refused rows, where it was asked for and there are any"
    )


class PairView(View):
    """One preference pair."""

    id: str
    prompt: list[dict[str, Any]]
    chosen: str
    rejected: str
    chosen_messages: list[dict[str, Any]] | None = Field(
        None, description="the response whole, where it is more than one text: calls, results, reasoning"
    )
    rejected_messages: list[dict[str, Any]] | None = Field(None, description="as `chosen_messages`")
    weight: float = 1.0
    source: str = ""
    deployment: str | None = None
    created_at: datetime | None = None


class DemonstrationView(View):
    """One demonstration."""

    id: str
    prompt: list[dict[str, Any]]
    completion: str
    completion_messages: list[dict[str, Any]] | None = Field(
        None, description="the completion whole, where it is more than one text: calls, results, reasoning"
    )
    source: str = ""
    deployment: str | None = None
    created_at: datetime | None = None


class RemovalView(View):
    """A row that was taken out of the training data."""

    id: str
    reason: str
    releases: list[str] = Field(description="releases that learned from it")
