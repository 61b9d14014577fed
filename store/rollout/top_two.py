"""Which two releases to compare next, to find the best one with few votes: top-two Thompson sampling.

Two draws from the posterior of the strengths (Russo, arXiv:1602.08448): the best release of the first, and the best other
one of the second. So releases that are surely worse are seldom drawn.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Matrix: TypeAlias = NDArray[np.float64]

PRIOR_SD = 1.0
"""Standard deviation of a release's strength before any vote, log-odds."""
DRAWS = 1000
STEPS = 50


def posterior(wins: Matrix) -> tuple[Matrix, Matrix]:
    """Return mean and covariance of Bradley-Terry strengths (Laplace); `wins[i, j]` is how often i beat j, a tie half."""
    games = wins + wins.T
    strength = np.zeros(len(wins))
    prior = np.eye(len(wins)) / PRIOR_SD**2
    precision = prior
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
        information = games * chance * (1 - chance)
        precision = prior + np.diag(information.sum(1)) - information
        step = np.linalg.solve(precision, (wins - games * chance).sum(1) - prior @ strength)
        strength = strength + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    return strength, np.linalg.inv(precision)


def chances(wins: Matrix, generator: np.random.Generator) -> Matrix:
    """Return with which chance each pair (i < j) is to be compared next; they sum to 1. At least two releases."""
    mean, covariance = posterior(wins)
    drawn = generator.multivariate_normal(mean, covariance, size=2 * DRAWS, method="cholesky")
    rows = np.arange(DRAWS)
    first = drawn[:DRAWS].argmax(1)
    others = drawn[DRAWS:].copy()
    others[rows, first] = -np.inf
    second = others.argmax(1)
    found = np.zeros_like(wins)
    np.add.at(found, (np.minimum(first, second), np.maximum(first, second)), 1 / DRAWS)
    return found
