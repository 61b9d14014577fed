"""Top-two Thompson sampling finds the best release with fewer votes than pairs drawn alike, on a known truth."""

from __future__ import annotations

import numpy as np
import pytest

from store.rollout import top_two

STRENGTHS = np.array([0.5, 0.3, 0.1, -0.1, -0.3, -0.6])
PAIRS = np.triu_indices(len(STRENGTHS), 1)


def named_best(votes: int, stories: int, *, active: bool) -> float:
    """Return in which share of the stories the best of six releases is named after this many votes."""
    generator = np.random.default_rng(7)
    right = 0
    for _ in range(stories):
        wins = np.zeros((6, 6))
        chances = np.full(len(PAIRS[0]), 1 / len(PAIRS[0]))
        for vote in range(votes):
            if active and vote % 5 == 0:
                chances = top_two.chances(wins, generator)[PAIRS]
            place = generator.choice(len(chances), p=chances / chances.sum())
            i, j = PAIRS[0][place], PAIRS[1][place]
            i_wins = generator.random() < 1 / (1 + np.exp(STRENGTHS[j] - STRENGTHS[i]))
            wins[(i, j) if i_wins else (j, i)] += 1
        right += int(top_two.posterior(wins)[0].argmax() == 0)
    return right / stories


def test_the_best_release_is_named_more_often_than_with_pairs_drawn_alike() -> None:
    assert named_best(150, 120, active=True) >= named_best(150, 120, active=False) + 0.03


def test_chances_sum_to_one_and_lie_above_the_diagonal() -> None:
    generator = np.random.default_rng(0)
    for size in (2, 3, 7):
        found = top_two.chances(generator.integers(0, 9, (size, size)) * (1 - np.eye(size)), generator)
        assert found.sum() == pytest.approx(1)
        assert not np.tril(found).any()


def test_without_votes_every_pair_is_about_as_likely() -> None:
    found = top_two.chances(np.zeros((4, 4)), np.random.default_rng(0))[np.triu_indices(4, 1)]
    assert found.min() > 0.12
    assert found.max() < 0.21


def test_a_release_that_surely_loses_is_hardly_compared() -> None:
    wins = np.zeros((3, 3))
    wins[0, 2] = wins[1, 2] = 40
    wins[0, 1] = wins[1, 0] = 10
    found = top_two.chances(wins, np.random.default_rng(0))
    assert found[0, 1] > 0.95


def test_strengths_are_those_that_the_votes_came_from() -> None:
    generator = np.random.default_rng(1)
    chance = 1 / (1 + np.exp(STRENGTHS[None, :] - STRENGTHS[:, None]))
    inside = []
    for _ in range(100):
        games = np.triu(np.full((6, 6), 40), 1)
        won = generator.binomial(games, chance)
        mean, covariance = top_two.posterior((won + (games - won).T).astype(float))
        truth = STRENGTHS - STRENGTHS.mean()
        inside.append(np.abs(mean - truth) <= 1.96 * np.sqrt(np.diag(covariance)))
    assert np.mean(inside) >= 0.93
