"""Who used how much, and what is left of the budgets."""

from __future__ import annotations

import asyncio
import re
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from serve.metering.limits import USER, Holder, Limits
from serve.metering.usage_counter import Sum, UsageCounter
from store.accounts import usage
from store.accounts.usage import Usage
from store.errors import Invalid
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.usage.models import SpentView, UsageView
from trimtab.background import call_store

router = APIRouter(tags=["people"])

Day = Annotated[
    str | None, Query(description="YYYY-MM-DD, a day in UTC", json_schema_extra={"format": "date"})
]


@router.get("/usage")
async def list_usage(
    platform: ThePlatform, principal: Operator, since: Day = None, until: Day = None
) -> list[UsageView]:
    """Report what each user and key used in those days (default: this month), today and this month."""
    limiter = platform.gateway.rate_limiter
    first, last = _span(since, until, limiter.counter.periods()[0].first)
    await asyncio.to_thread(platform.usage.flush)
    rows = await call_store(platform.db, usage.sums, first, last)
    return [_view(row, limiter.counter, limiter.limits) for row in rows]


def _span(since: str | None, until: str | None, today: date) -> tuple[date, date]:
    """Return the first and the last day; raises Invalid. Without `since` it is the month of `until` up to that day."""
    last = today if until is None else _day("until", until)
    first = last.replace(day=1) if since is None else _day("since", since)
    if first > last:
        raise Invalid("since", since, f"a day up to {last}, which is {'today' if until is None else 'until'}")
    return first, last


def _day(field: str, text: str) -> date:
    try:
        # fromisoformat alone takes weeks and days without dashes, too
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise Invalid(field, text, "a day as YYYY-MM-DD")


def _view(row: Usage, counter: UsageCounter, limits: Limits) -> UsageView:
    budget, (today, month) = limits.of(row.name), counter.spent(row.holder)
    return UsageView(
        kind=Holder(row.holder, row.name).kind,
        id=row.holder.removeprefix(USER),
        name=row.name,
        requests=row.requests,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        today=_spent(today, budget.requests_per_day, budget.tokens_per_day),
        month=_spent(month, budget.requests_per_month, budget.tokens_per_month),
    )


def _spent(used: Sum, requests: int | None, tokens: int | None) -> SpentView:
    return SpentView(
        requests=used.requests, tokens=used.tokens, requests_budget=requests, tokens_budget=tokens
    )
