"""The canary's test by votes: by hand, its promise on equal canaries, and whom a verdict hangs on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bench.deciding import canary_errors
from trimtab.rollout.canary_test import (
    BETS,
    CROWD_VOTES,
    ROUND_DAYS,
    CanaryVote,
    blocks,
    interval,
    kind_of,
    not_worse,
    spent,
    wealth,
    wealth_against,
    weigh,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def votes(told: str, minutes: float = 1.0) -> list[CanaryVote]:
    """`a1 b0 c=` are a win by a, a loss by b and a tie by c, one after the other."""
    scores = {"1": 1.0, "0": 0.0, "=": 0.5}
    return [
        CanaryVote(word[0], START + place * timedelta(minutes=minutes), scores[word[1]])
        for place, word in enumerate(told.split())
    ]


def alone(wins: int, losses: int = 0) -> list[CanaryVote]:
    return votes("a1 " * wins + "a0 " * losses)


def decided(told: Sequence[CanaryVote], kind: str = "team", **how: object) -> str | None:
    given = {"alpha_promote": 0.05, "alpha_rollback": 0.05} | how
    return weigh(told, kind, **given).verdict  # type: ignore[arg-type]


def test_wealth_by_hand() -> None:
    assert wealth([]) == 1
    assert wealth([1.0]) == pytest.approx(sum(1 + bet for bet in BETS) / len(BETS))
    assert wealth([0.5] * 50) == 1, "ties cost nothing"
    assert wealth([1.0] * 7) >= 20 > wealth([1.0] * 6)
    assert wealth_against([0.0] * 7) == wealth([1.0] * 7)
    assert wealth([1.0] * 20_000) == math.inf


def test_wealth_keeps_the_best_that_it_has_been() -> None:
    assert wealth([1.0] * 7 + [0.0] * 40) == wealth([1.0] * 7)


def test_a_bet_is_fair_where_the_truth_is_the_bound() -> None:
    """The expected factor of each bet is 1: the whole promise rests on it."""
    for mean in (0.2, 0.5, 0.7):
        values = np.array([0.0, 1.0])
        chances = np.array([1 - mean, mean])
        for bet in BETS:
            assert float(chances @ (1 + bet * (values / mean - 1))) == pytest.approx(1.0)


def test_a_round_takes_one_vote_of_each_rater() -> None:
    assert blocks(votes("a1 b0 a1 a1 b1"), "team", "ab") == [0.5, 1.0]
    assert blocks(votes("a1 a1 a1 b0"), "team", "ab") == [0.5], "b has voted once, so there is one round"
    assert blocks(votes("a1 a0 a="), "team") == [1.0, 0.0, 0.5]
    assert blocks(votes("a1 b1"), "team", "abc") == [], "c is waited for"


def test_who_does_not_vote_is_left_out_of_a_round_by_time() -> None:
    told = votes("a1 b0")
    late = START + timedelta(days=ROUND_DAYS, minutes=1)
    assert blocks(told, "team", "abc", late) == [0.5]
    back = [*told, CanaryVote("c", late, 1.0), CanaryVote("a", late, 1.0), CanaryVote("b", late, 1.0)]
    assert blocks(back, "team", "abc") == [0.5, 1.0], "and is waited for again"


def test_a_crowd_counts_each_rater_once() -> None:
    told = votes("a1 " * 40 + "b1 b0 b1 b0 b= " + "c1 c1")
    assert blocks(told, "crowd") == [1.0, 0.5]
    assert CROWD_VOTES == 5


def test_the_size_decides_the_blocks() -> None:
    assert [kind_of(n) for n in (0, 1, 15, 16)] == ["team", "team", "team", "crowd"]


def test_few_votes_decide_nothing() -> None:
    assert decided(alone(7)) == "promote"
    assert decided(alone(7), min_votes=8) is None
    assert decided(alone(6)) is None
    assert decided(alone(0, 7)) == "rollback"
    assert decided(votes("a1 a= " * 7), min_votes=8) is None, "ties are not votes that prefer one"


def test_one_keen_rater_does_not_decide_for_the_others() -> None:
    told = votes("a1 a1 a1 a1 a1 a1 a1 a1 b0 c0 " * 20)
    assert decided(told, members=("a", "b", "c")) == "rollback", "two of three like it less"
    torn = votes("a1 a1 a1 a1 a1 a1 a1 a1 b0 c= " * 20)
    assert decided(torn, members=("a", "b", "c")) is None
    assert decided(votes("a1 " * 160)) == "promote", "alone, it is their own taste"


def test_evidence_names_the_decisive_raters() -> None:
    both = votes("a1 b1 " * 9)
    found = weigh(both, "team", alpha_promote=0.05, alpha_rollback=0.05)
    assert (found.verdict, found.without) == ("promote", ())
    told = votes("a1 b= " * 14 + "a0 b=")
    one = weigh(told, "team", alpha_promote=0.05, alpha_rollback=0.05)
    assert (one.verdict, one.without) == ("promote", ("a",))


def test_the_interval_holds_the_truth_at_every_look() -> None:
    random, missed = np.random.default_rng(5), 0
    for _ in range(100):
        truth = random.uniform(0.2, 0.8)
        values = (random.random(120) < truth).astype(float)
        low, high = interval(values, 0.05)
        missed += not low - 0.01 <= truth <= high + 0.01
    assert missed <= 11
    assert interval([], 0.05) == (0.0, 1.0)


def test_not_worse_is_proven_where_better_is_not() -> None:
    random = np.random.default_rng(2)
    values = (random.random(3000) < 0.5).astype(float)
    assert wealth(values) < 20
    assert not_worse(values, 0.05, 0.05)
    assert not not_worse((random.random(3000) < 0.45).astype(float), 0.05, 0.05)


def test_a_year_of_canaries_spends_alpha_together() -> None:
    assert spent(0.05, 1) == pytest.approx(0.0304, abs=1e-4)
    assert sum(spent(0.05, n) for n in range(1, 10_000)) <= 0.05


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_is_a_chance(alpha: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        weigh([], "team", alpha_promote=alpha, alpha_rollback=0.05)


@pytest.mark.parametrize("name", list(canary_errors.CASES))
def test_equal_canaries_are_seldom_promoted(name: str) -> None:
    """At most 5% in the long run; bench/deciding/canary_errors.py tells 10,000 stories of each."""
    stories = 150
    told = list(canary_errors.outcomes(canary_errors.CASES[name], stories, 150, seed=3))
    assert sum(promoted for promoted, _, _ in told) <= 0.05 * stories + 2.6 * math.sqrt(0.0475 * stories)


def test_a_better_canary_is_promoted() -> None:
    random, promoted = np.random.default_rng(3), 0
    for _ in range(40):
        told = "".join(f"{'abc'[n % 3]}{int(random.random() < 0.65)} " for n in range(300))
        promoted += decided(votes(told), members=("a", "b", "c")) == "promote"
    assert promoted >= 34
