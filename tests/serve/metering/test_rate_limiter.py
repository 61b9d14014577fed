"""Rates, budgets by minute and bounds, on a clock that the test turns."""

from __future__ import annotations

import pytest

from serve.errors import RequestError, TooManyRequests
from serve.metering.limits import Budget, Holder, Limits
from serve.metering.rate_limiter import RateLimiter
from serve.metering.usage_counter import Used

ada, bob, eve = ([Holder(f"user {name}", name)] for name in ("ada", "bob", "eve"))
ci = Holder("key-1", "ci")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_requests_a_minute() -> None:
    clock = Clock()
    limiter = RateLimiter(Limits(requests_per_minute=60), clock)
    for _ in range(60):
        limiter.enter(ada)
        limiter.leave(ada)
    with pytest.raises(TooManyRequests, match="ada has used its 60 requests a minute") as caught:
        limiter.enter(ada)
    assert caught.value.status == 429
    assert int(caught.value.headers["Retry-After"]) >= 1
    limiter.enter(bob)  # budgets are one's own
    clock.now += 1.01
    limiter.enter(ada)
    with pytest.raises(TooManyRequests):
        limiter.enter(ada)


def test_tokens_a_minute_are_paid_afterwards() -> None:
    clock = Clock()
    limiter = RateLimiter(Limits(tokens_per_minute=600), clock)
    limiter.enter(ada)
    limiter.leave(ada, Used(600, 300))
    with pytest.raises(TooManyRequests, match="600 tokens a minute"):
        limiter.enter(ada)
    clock.now += 31  # 300 below zero, ten a second
    limiter.enter(ada)


def test_concurrency_of_one_and_of_all() -> None:
    limiter = RateLimiter(Limits(max_concurrent=2, max_outstanding=3))
    limiter.enter(ada)
    limiter.enter(ada)
    with pytest.raises(TooManyRequests, match="accepted: up to 2 at once"):
        limiter.enter(ada)
    limiter.enter(bob)
    with pytest.raises(RequestError, match="3 requests under way") as caught:
        limiter.enter(eve)
    assert (caught.value.status, caught.value.code) == (503, "overloaded")
    limiter.leave(ada)
    limiter.enter(eve)
    assert limiter.outstanding == 3


def test_a_clock_that_jumps_back_gives_nothing_away() -> None:
    clock = Clock()
    clock.now = 1000.0
    limiter = RateLimiter(Limits(requests_per_minute=1), clock)
    limiter.enter(ada)
    clock.now = 0.0
    with pytest.raises(TooManyRequests):
        limiter.enter(ada)


def test_a_user_and_a_key_both_pay() -> None:
    limiter = RateLimiter(Limits(requests_per_minute=2))
    limiter.enter([*ada, ci])
    limiter.enter([*ada, ci])
    with pytest.raises(TooManyRequests, match="ada has used its 2 requests"):
        limiter.enter(ada)
    with pytest.raises(TooManyRequests, match="ci has used its 2 requests"):
        limiter.enter([*bob, ci])  # whoever brings the key
    limiter.enter(bob)
    limiter.enter(bob)  # the refused request cost bob nothing


def test_budgets_by_name() -> None:
    limiter = RateLimiter(
        Limits(max_concurrent=1, budgets={"ci": Budget(max_concurrent=3, tokens_per_minute=100)})
    )
    for _ in range(3):
        limiter.enter([ci])
    with pytest.raises(TooManyRequests, match="up to 3 at once"):
        limiter.enter([ci])
    limiter.leave([ci], Used(100, 100))
    with pytest.raises(TooManyRequests, match="100 tokens a minute"):
        limiter.enter([ci])
    limiter.enter(ada)
    with pytest.raises(TooManyRequests, match="up to 1 at once"):
        limiter.enter(ada)
