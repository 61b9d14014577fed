"""Rates, budgets by minute and bounds, on a clock that the test turns."""

from __future__ import annotations

import pytest

from serve.errors import RequestError, TooManyRequests
from serve.metering.limits import Budget, Holder, Limits
from serve.metering.rate_limiter import Meter
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
    meter = Meter(Limits(requests_per_minute=60), clock)
    for _ in range(60):
        meter.enter(ada)
        meter.leave(ada)
    with pytest.raises(TooManyRequests, match="ada has used its 60 requests a minute") as caught:
        meter.enter(ada)
    assert caught.value.status == 429
    assert int(caught.value.headers["Retry-After"]) >= 1
    meter.enter(bob)  # budgets are one's own
    clock.now += 1.01
    meter.enter(ada)
    with pytest.raises(TooManyRequests):
        meter.enter(ada)


def test_tokens_a_minute_are_paid_afterwards() -> None:
    clock = Clock()
    meter = Meter(Limits(tokens_per_minute=600), clock)
    meter.enter(ada)
    meter.leave(ada, Used(600, 300))
    with pytest.raises(TooManyRequests, match="600 tokens a minute"):
        meter.enter(ada)
    clock.now += 31  # 300 below zero, ten a second
    meter.enter(ada)


def test_concurrency_of_one_and_of_all() -> None:
    meter = Meter(Limits(max_concurrent=2, max_outstanding=3))
    meter.enter(ada)
    meter.enter(ada)
    with pytest.raises(TooManyRequests, match="accepted: up to 2 at once"):
        meter.enter(ada)
    meter.enter(bob)
    with pytest.raises(RequestError, match="3 requests under way") as caught:
        meter.enter(eve)
    assert (caught.value.status, caught.value.code) == (503, "overloaded")
    meter.leave(ada)
    meter.enter(eve)
    assert meter.outstanding == 3


def test_a_clock_that_jumps_back_gives_nothing_away() -> None:
    clock = Clock()
    clock.now = 1000.0
    meter = Meter(Limits(requests_per_minute=1), clock)
    meter.enter(ada)
    clock.now = 0.0
    with pytest.raises(TooManyRequests):
        meter.enter(ada)


def test_a_user_and_a_key_both_pay() -> None:
    meter = Meter(Limits(requests_per_minute=2))
    meter.enter([*ada, ci])
    meter.enter([*ada, ci])
    with pytest.raises(TooManyRequests, match="ada has used its 2 requests"):
        meter.enter(ada)
    with pytest.raises(TooManyRequests, match="ci has used its 2 requests"):
        meter.enter([*bob, ci])  # whoever brings the key
    meter.enter(bob)
    meter.enter(bob)  # the refused request cost bob nothing


def test_budgets_by_name() -> None:
    meter = Meter(Limits(max_concurrent=1, budgets={"ci": Budget(max_concurrent=3, tokens_per_minute=100)}))
    for _ in range(3):
        meter.enter([ci])
    with pytest.raises(TooManyRequests, match="up to 3 at once"):
        meter.enter([ci])
    meter.leave([ci], Used(100, 100))
    with pytest.raises(TooManyRequests, match="100 tokens a minute"):
        meter.enter([ci])
    meter.enter(ada)
    with pytest.raises(TooManyRequests, match="up to 1 at once"):
        meter.enter(ada)
