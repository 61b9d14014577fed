"""The cost of an adapter: a number where the times agree, else unknown, never 0."""

from __future__ import annotations

import random

import pytest

from serve.adapters.token_cost import seconds_a_token


def test_the_shortest_times_count() -> None:
    assert seconds_a_token([0.11, 0.1, 0.9], [0.5, 2.0, 0.51], 8) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ([0.5, 0.51], [0.5, 0.52]),  # nothing between both
        ([0.9, 0.91], [0.5, 0.52]),  # the short one waited
        ([0.1, 0.6], [0.5, 0.51]),  # times that do not agree
        ([0.1, 0.11], [0.5, 0.9]),
        ([0.1], [0.5]),
    ],
)
def test_times_that_do_not_agree_leave_it_unknown(short: list[float], long: list[float]) -> None:
    assert seconds_a_token(short, long, 8) is None


def test_on_a_busy_machine_it_is_right_or_unknown() -> None:
    """Answers of 20 ms and 8 more tokens of 15 ms each, behind other work of random length."""
    drawn = random.Random(1)
    known = 0
    for _ in range(300):
        wait = [drawn.expovariate(1 / 0.05) for _ in range(10)]
        short, long = [0.02 + w for w in wait[:5]], [0.14 + w for w in wait[5:]]
        found = seconds_a_token(short, long, 8)
        known += found is not None
        assert found is None or 0.005 < found < 0.03
    assert known > 150
