"""The sequential test: by hand, against numeric integration, and its promise when looked at after every vote."""

from __future__ import annotations

import random

import pytest
from scipy.integrate import quad

from trimtab.rollout.canary_test import decide, evidence


def test_by_hand() -> None:
    assert evidence(0, 0) == 1.0
    # one win: 2 * 2 * (1/2 - 1/8) = 3/2, one loss: 2 * 2 * (1/8) = 1/2
    assert evidence(1, 0) == 1.5
    assert evidence(0, 1) == 0.5


@pytest.mark.parametrize(("wins", "losses"), [(7, 0), (3, 9), (40, 22), (150, 150)])
def test_it_is_the_mixture(wins: int, losses: int) -> None:
    area, _ = quad(lambda p: (2 * p) ** wins * (2 * (1 - p)) ** losses, 0.5, 1, limit=200)
    assert evidence(wins, losses) == pytest.approx(2 * area, rel=1e-6)


def test_many_votes_do_not_overflow() -> None:
    assert evidence(20_000, 0) == float("inf")
    assert decide(20_000, 0, 0.05, 20) == "promote"
    assert decide(0, 20_000, 0.05, 20) == "rollback"


def test_few_votes_decide_nothing() -> None:
    assert decide(7, 0, 0.05, 1) == "promote"
    assert decide(7, 0, 0.05, 8) is None
    assert decide(6, 0, 0.05, 1) is None


def test_a_canary_as_good_as_stable_is_seldom_decided_though_looked_at_after_every_vote() -> None:
    draw, promoted, alpha = random.Random(7), 0, 0.05
    stories = 400
    for _ in range(stories):
        wins = losses = 0
        for _ in range(200):
            if draw.random() < 0.5:
                wins += 1
            else:
                losses += 1
            if decide(wins, losses, alpha, 1) == "promote":
                promoted += 1
                break
    # at most 5 % in the long run: 400 stories give 20 at most and, one time in a thousand, 34
    assert 0 < promoted <= 34


def test_a_better_canary_is_promoted() -> None:
    draw, promoted = random.Random(3), 0
    for _ in range(50):
        wins = losses = 0
        for _ in range(200):
            wins, losses = (wins + 1, losses) if draw.random() < 0.65 else (wins, losses + 1)
            if found := decide(wins, losses, 0.05, 20):
                promoted += found == "promote"
                break
    assert promoted >= 45
