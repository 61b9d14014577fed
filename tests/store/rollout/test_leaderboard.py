"""Bradley-Terry by hand: with two releases, the score gap is the log-odds of the votes."""

from __future__ import annotations

import math

import numpy as np

from store.db.database import Store
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.rollout import leaderboard


def duel(
    db: Store,
    winner: str,
    loser: str,
    choice: str | None = None,
    deployment: str = "assistant",
    rater: str = "ada",
) -> None:
    made = comparisons.create(
        db, "Hi", [Candidate("x", release=winner), Candidate("y", release=loser)], deployment
    )
    comparisons.vote(db, made.id, choice or ("a" if made.a.release == winner else "b"), rater)


def test_no_votes_no_ranking(db: Store) -> None:
    assert leaderboard.rank(db) == []


def test_counts_and_order(db: Store) -> None:
    for _ in range(6):
        duel(db, "good", "bad")
    duel(db, "bad", "good")
    duel(db, "good", "bad", "tie")
    duel(db, "same", "same")
    best, worst = leaderboard.rank(db)
    assert (best.release, best.wins, best.losses, best.ties, best.votes) == ("good", 6, 1, 1, 8)
    assert (worst.release, worst.wins, worst.losses) == ("bad", 1, 6)
    assert best.low < best.score < best.high
    assert math.isclose(best.score + worst.score, 2000)
    assert leaderboard.rank(db, "poet") == []


def test_many_votes_give_the_log_odds_of_the_votes() -> None:
    strength, error = leaderboard.fit(np.array([[0.0, 30000.0], [10000.0, 0.0]]))
    assert math.isclose(strength[0] - strength[1], math.log(3), abs_tol=1e-3)
    # One binomial of n games: the log-odds' standard error is 1 / sqrt(n p q), half of it on each side.
    assert math.isclose(error[0], 0.5 / math.sqrt(40000 * 0.75 * 0.25), rel_tol=1e-3)


def test_one_sided_votes_stay_finite() -> None:
    strength, error = leaderboard.fit(np.array([[0.0, 5.0], [0.0, 0.0]]))
    assert 0.5 < strength[0] < 3
    assert np.isfinite(error).all()


def test_releases_that_nobody_compared_are_ranked_apart(db: Store) -> None:
    for _ in range(4):
        duel(db, "a@1", "a@2")
    duel(db, "b@1", "b@2", deployment="poet")
    rows = leaderboard.rank(db)
    assert [(row.release, row.group) for row in rows] == [("a@1", 1), ("a@2", 1), ("b@1", 2), ("b@2", 2)]
    for group in (1, 2):
        scores = [row.score for row in rows if row.group == group]
        assert math.isclose(sum(scores), 2000)


def test_one_rater_s_many_votes_do_not_narrow_the_interval_as_many_raters_would(db: Store) -> None:
    """Forty votes that split by person say less than forty that split within each."""
    for rater, better, worse in (("ada", "x", "y"), ("bob", "y", "x"), ("cy", "x", "y"), ("di", "y", "x")):
        for _ in range(10):
            duel(db, better, worse, rater=rater)
    for rater in ("ada", "bob", "cy", "di"):
        for better, worse in (("v", "w"), ("w", "v")) * 5:
            duel(db, better, worse, rater=rater)
    width = {row.release: row.high - row.low for row in leaderboard.rank(db)}
    assert width["x"] > 1.5 * width["v"]
