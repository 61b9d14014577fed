"""Evaluations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trimtab.api.base import Request, View


class EvalRequest(Request):
    """Measures a release, against another where one is named."""

    release: str
    against: str | None = None
    suite: str = "default"


class EvalView(View):
    """One evaluation and, once it is done, its report."""

    id: str
    release: str
    against: str | None
    suite: str
    state: str
    report: dict[str, Any] | None = None
    error: str | None = None
    created_at: datetime | None = None
