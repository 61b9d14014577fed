"""Budgets by calendar day and month, on a clock that the test turns. Days and months are those of UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from serve.errors import InsufficientQuota, TooManyRequests
from serve.metering.limits import Budget, Holder, Limits
from serve.metering.rate_limiter import RateLimiter
from serve.metering.usage_counter import UsageCounter, Used

ada, bob = ([Holder(f"user {name}", name)] for name in ("ada", "bob"))
ci = Holder("key-1", "ci")


class Clock:
    """Seconds since the epoch; begins at noon of the last day but one of a month."""

    def __init__(self) -> None:
        self.at("2026-11-29 12:00:00")

    def at(self, when: str) -> None:
        self.now = datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def metered(clock: Clock, limits: Limits) -> RateLimiter:
    return RateLimiter(limits, counter=UsageCounter(clock))


def ask(limiter: RateLimiter, who: list[Holder], tokens: int = 0) -> None:
    limiter.enter(who)
    limiter.leave(who, Used(tokens, 0))


def test_requests_a_day(clock: Clock) -> None:
    limiter = metered(clock, Limits(requests_per_day=2))
    ask(limiter, ada)
    ask(limiter, ada)
    with pytest.raises(InsufficientQuota) as caught:
        limiter.enter(ada)
    error = caught.value
    assert (error.status, error.code, error.kind) == (429, "insufficient_quota", "insufficient_quota")
    assert error.message == (
        "ada has used its 2 requests a day; this budget begins anew at 2026-11-30 00:00 UTC."
    )
    assert error.headers == {"Retry-After": str(12 * 3600)}
    assert limiter.outstanding == 0
    limiter.enter(bob)  # a budget is one's own
    clock.at("2026-11-29 23:59:59")
    with pytest.raises(InsufficientQuota) as caught:
        limiter.enter(ada)
    assert caught.value.headers["Retry-After"] == "1"
    clock.at("2026-11-30 00:00:00")
    ask(limiter, ada)


def test_tokens_a_day_are_paid_afterwards(clock: Clock) -> None:
    limiter = metered(clock, Limits(tokens_per_day=100))
    limiter.enter(ada)
    limiter.leave(ada, Used(prompt_tokens=60, completion_tokens=39))
    ask(limiter, ada, 500)  # one token is left, so it may begin
    with pytest.raises(InsufficientQuota, match="ada has used its 100 tokens a day"):
        limiter.enter(ada)


def test_a_month_lasts_longer_than_a_day(clock: Clock) -> None:
    limiter = metered(clock, Limits(requests_per_day=2, tokens_per_month=100))
    ask(limiter, ada, 50)
    ask(limiter, ada, 50)
    with pytest.raises(
        InsufficientQuota, match=r"100 tokens a month; .* anew at 2026-12-01 00:00 UTC"
    ) as caught:
        limiter.enter(ada)
    assert caught.value.headers["Retry-After"] == str(36 * 3600)
    clock.at("2026-11-30 12:00:00")
    with pytest.raises(InsufficientQuota, match="100 tokens a month"):
        limiter.enter(ada)
    clock.at("2026-12-01 00:00:01")
    ask(limiter, ada)


def test_the_month_after_december_is_january(clock: Clock) -> None:
    clock.at("2026-12-31 23:00:00")
    limiter = metered(clock, Limits(requests_per_month=1))
    ask(limiter, ada)
    with pytest.raises(InsufficientQuota, match="2027-01-01 00:00 UTC"):
        limiter.enter(ada)


def test_a_user_and_a_key_both_pay(clock: Clock) -> None:
    limiter = metered(clock, Limits(requests_per_day=2))
    ask(limiter, [*ada, ci])
    ask(limiter, [*ada, ci])
    with pytest.raises(InsufficientQuota, match="ada has used"):
        limiter.enter(ada)
    with pytest.raises(InsufficientQuota, match="ci has used"):
        limiter.enter([*bob, ci])
    ask(limiter, bob)
    ask(limiter, bob)  # the refused request cost bob nothing


def test_requests_under_way_have_their_place_and_give_it_back(clock: Clock) -> None:
    limiter = metered(clock, Limits(requests_per_month=2))
    limiter.enter(ada)
    limiter.enter(ada)
    with pytest.raises(InsufficientQuota):
        limiter.enter(ada)
    limiter.leave(ada, None)  # nothing was answered
    limiter.enter(ada)


def test_budgets_by_name_replace_that_of_everybody(clock: Clock) -> None:
    limits = Limits(tokens_per_day=10, budgets={"ci": Budget(requests_per_day=1, tokens_per_day=1000)})
    limiter = metered(clock, limits)
    ask(limiter, ada, 10)
    with pytest.raises(InsufficientQuota, match="10 tokens a day"):
        limiter.enter(ada)
    ask(limiter, [ci], 500)
    with pytest.raises(InsufficientQuota, match="1 requests a day"):
        limiter.enter([ci])
    assert limits.of("ci") == Budget(requests_per_day=1, tokens_per_day=1000)
    assert limits.of("ada") == Budget(tokens_per_day=10)


def test_a_rate_is_no_quota(clock: Clock) -> None:
    limiter = metered(clock, Limits(requests_per_minute=1, requests_per_day=5))
    ask(limiter, ada)
    with pytest.raises(TooManyRequests) as caught:
        limiter.enter(ada)
    assert caught.value.code == "rate_limit_exceeded"


def test_what_is_used_is_known_without_any_budget(clock: Clock) -> None:
    limiter = metered(clock, Limits())
    ask(limiter, [*ada, ci], 7)
    ask(limiter, ada, 3)
    limiter.enter(ada)
    limiter.leave(ada)  # never answered
    today, month = limiter.counter.spent("user ada")
    assert (today.requests, today.tokens) == (month.requests, month.tokens) == (2, 10)
    assert limiter.counter.spent("key-1")[0].tokens == 7
    assert limiter.counter.spent("key-2")[0].requests == 0


@pytest.mark.parametrize("there", ["2026-12-24 12:00:00", "2026-10-01 00:00:00"])
def test_a_clock_that_jumps_away_begins_another_day(clock: Clock, there: str) -> None:
    limiter = metered(clock, Limits(requests_per_day=1, requests_per_month=1))
    ask(limiter, ada)
    clock.at(there)
    ask(limiter, ada)
    with pytest.raises(InsufficientQuota):
        limiter.enter(ada)
