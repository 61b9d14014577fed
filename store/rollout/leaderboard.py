"""Releases ranked from votes: Bradley-Terry strengths with confidence intervals.

The model is P(i beats j) = 1 / (1 + exp(s_j - s_i)), a tie counting as half a win each way (as in Chatbot
Arena, arXiv:2403.04132), fitted by Newton's method with a weak normal prior (standard deviation 2 in log-
odds), which keeps releases with few or one-sided votes finite. Intervals come from the curvature at the
optimum (Laplace). Not covered: style control, raters of different skill.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from store.db.database import Store
from store.db.rows import fetch_all
from store.records import LeaderboardRow

PRIOR_SD = 2.0
ELO = 400 / math.log(10)
CENTRE = 1000.0
Z95 = 1.959963984540054


def rank(db: Store, deployment: str | None = None) -> list[LeaderboardRow]:
    """Return every release that was compared with another, best first; `release` is its record id."""
    duels = fetch_all(
        db.read(),
        """
        with duels as (
            select a.release as one, b.release as other, choice
            from votes
            join comparisons on comparisons.id = votes.comparison_id
            join candidates a on a.comparison_id = comparisons.id and a.side = 'a'
            join candidates b on b.comparison_id = comparisons.id and b.side = 'b'
            where gold is null and a.release <> b.release
                and ($deployment is null or comparisons.deployment = $deployment)
        )
        select one, other,
            count(*) filter (choice = 'a') as won,
            count(*) filter (choice = 'b') as lost,
            count(*) filter (choice in ('tie', 'both_bad')) as tied
        from duels
        group by one, other
        """,
        {"deployment": deployment},
    )
    names = sorted({row["one"] for row in duels} | {row["other"] for row in duels})
    if not names:
        return []
    place = {name: index for index, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    ties = np.zeros_like(wins)
    for row in duels:
        i, j = place[row["one"]], place[row["other"]]
        wins[i, j] += row["won"]
        wins[j, i] += row["lost"]
        ties[i, j] += row["tied"]
        ties[j, i] += row["tied"]
    strength, error = fit(wins + ties / 2)
    rows = [
        LeaderboardRow(
            release=name,
            wins=int(wins[i].sum()),
            losses=int(wins[:, i].sum()),
            ties=int(ties[i].sum()),
            votes=int((wins + wins.T + ties)[i].sum()),
            score=CENTRE + ELO * float(strength[i]),
            low=CENTRE + ELO * float(strength[i] - Z95 * error[i]),
            high=CENTRE + ELO * float(strength[i] + Z95 * error[i]),
        )
        for i, name in enumerate(names)
    ]
    return sorted(rows, key=lambda r: (-r.score, r.release))


def fit(wins: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return strengths (log-odds, mean 0) and their standard errors; `wins[i, j]` is how often i beat j."""
    n = len(wins)
    games = wins + wins.T
    strength = np.zeros(n)
    precision = np.eye(n) / PRIOR_SD**2
    for _ in range(100):
        expected = games / (1 + np.exp(strength[None, :] - strength[:, None]))
        gradient = (wins - expected).sum(1) - strength / PRIOR_SD**2
        curvature = expected * (1 - np.divide(expected, games, out=np.zeros_like(games), where=games > 0))
        hessian = np.diag(curvature.sum(1)) - curvature + precision
        step = np.linalg.solve(hessian, gradient)
        strength = strength + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            break
    # Subtracting the mean takes the prior's freedom of the common level out of the errors.
    centring = np.eye(n) - 1 / n
    covariance = centring @ np.linalg.inv(hessian) @ centring.T
    return strength - strength.mean(), np.sqrt(np.maximum(np.diag(covariance), 0.0))
