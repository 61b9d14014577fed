"""Evaluations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from trimtab.api.base import Request, View


class EvalRequest(Request):
    """Measures a release, against another where one is named."""

    release: str = Field(
        description="`assistant@3`; with `people` also a deployment: its canary against stable"
    )
    against: str | None = None
    suite: str = "default"
    people: int = Field(
        0,
        ge=0,
        le=1000,
        description="pairs of answers to held-out prompts that people compare blind in Rank; their votes join the report",
    )


class EvalProgress(View):
    """How far an evaluation under way is, in requests, and about how long it still takes."""

    done: int
    total: int
    seconds_left: float


class EvalView(View):
    """One evaluation and, once it is done, its report; while it runs, how far it is."""

    id: str
    release: str
    against: str | None
    suite: str
    state: str
    report: dict[str, Any] | None = None
    error: str | None = None
    created_at: datetime | None = None
    progress: EvalProgress | None = None


class EvalItemView(View):
    """What one measurement found of one release: `side` is release, against or anchor; `prompt` where it is still known."""

    number: int
    measure: str
    item: str
    side: str
    cluster: str
    reference: str | None
    prompt: list[dict[str, Any]] | None
    answer: str | None
    finish_reason: str | None
    tokens: int | None
    seconds: float | None
    value: float | None
    detail: dict[str, Any]
