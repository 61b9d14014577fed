"""Budgets of a calendar day or month: which there are, and who has used one up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from serve.errors import InsufficientQuota
from serve.metering.limits import Budget, Holder
from serve.metering.usage_counter import UsageCounter

What = Literal["requests", "tokens"]
When = Literal["day", "month"]


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `size` requests or tokens in a calendar day or month, in UTC."""

    what: What
    period: When
    size: int


def quotas(budget: Budget) -> tuple[Quota, ...]:
    """Return what a budget sets by month, then by day: a refusal names the one that lasts longest."""
    found: tuple[tuple[What, When, int | None], ...] = (
        ("requests", "month", budget.requests_per_month),
        ("tokens", "month", budget.tokens_per_month),
        ("requests", "day", budget.requests_per_day),
        ("tokens", "day", budget.tokens_per_day),
    )
    return tuple(Quota(what, period, size) for what, period, size in found if size is not None)


def require(who: Holder, accepted: tuple[Quota, ...], counter: UsageCounter, running: int) -> None:
    """Raise `InsufficientQuota` (429) when `who` has used one of the quotas up.

    A request under way has its place already (`running` of them); tokens are paid for when an answer has ended.
    """
    today, this_month = counter.spent(who.id)
    for quota in accepted:
        spent = today if quota.period == "day" else this_month
        if (spent.tokens if quota.what == "tokens" else spent.requests + running) < quota.size:
            continue
        day, month = counter.periods()
        period = day if quota.period == "day" else month
        raise InsufficientQuota(
            f"{who.name} has used its {quota.size} {quota.what} a {quota.period}; "
            f"this budget begins anew at {period.ends:%Y-%m-%d %H:%M} UTC.",
            math.ceil(counter.seconds_to(period)),
        )
