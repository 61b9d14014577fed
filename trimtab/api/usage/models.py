"""What callers used, and their budgets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trimtab.api.base import View


class SpentView(View):
    """What is used of a calendar day or month, and the budgets of it; none is no limit."""

    requests: int
    tokens: int
    requests_budget: int | None
    tokens_budget: int | None


class UsageView(View):
    """What a user, a key or another caller used: in the days that were asked for, today and this month (UTC)."""

    kind: Literal["user", "key", "other"]
    id: str = Field(description="a user's name, a key's id, another caller's name")
    name: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    today: SpentView
    month: SpentView
