"""Releases ranked from votes: Bradley-Terry strengths with confidence intervals.

The model is P(i beats j) = 1 / (1 + exp(s_j - s_i)), a tie counting as half a win each way (as in Chatbot
Arena, arXiv:2403.04132), fitted by the library evalica; two releases that were compared get one tie more, which
keeps one-sided votes finite. An interval is the wider of two: from the curvature at the optimum (Laplace), which takes
votes for independent, and from raters drawn again (bootstrap), since one rater's votes depend on each other. Releases
that no chain of comparisons connects are ranked apart. Not covered: style control.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from store.db.database import Store
from store.db.record import Record
from store.db.rows import Row, fetch_all

Counts: TypeAlias = NDArray[np.float64]

ELO = 400 / math.log(10)
CENTRE = 1000.0
Z95 = 1.959963984540054
RESAMPLES = 200
FURTHER_TIES = 1.0


@dataclass(frozen=True, slots=True)
class LeaderboardRow(Record):
    """A release's standing: `score` on the Elo scale (mean 1000), `low` to `high` its 95 % interval.

    Scores of releases in different `group`s, which nobody compared, say nothing about each other.
    """

    release: str
    wins: int
    losses: int
    ties: int
    votes: int
    score: float
    low: float
    high: float
    group: int = 1


def rank(db: Store, deployment: str | None = None) -> list[LeaderboardRow]:
    """Return every release that was compared with another, best first in each group; `release` is its record id.

    Scores of one group have the mean 1000; those of different groups say nothing about each other. The group
    with most votes comes first.
    """
    found = duels(db, deployment)
    groups = sorted(_groups(found), key=lambda group: (-sum(_votes(row) for row in group), group[0]["one"]))
    return [row for number, group in enumerate(groups, 1) for row in _standing(group, number)]


def duels(db: Store, deployment: str | None = None) -> list[Row]:
    """Return how often each release won, lost and tied against each other one, by rater; by record ids."""
    # Each vote once for each two answers, seen from the first; gold questions and votes between equal releases do not count.
    return fetch_all(
        db.read(),
        """
        select one_release as one, other_release as other, rater,
            count(*) filter (outcome = 'a') as won,
            count(*) filter (outcome = 'b') as lost,
            count(*) filter (outcome in ('tie', 'both_bad')) as tied
        from decided_pairs
        join comparisons on comparisons.id = comparison_id
        where gold is null and one_release <> other_release
            and ($deployment is null or comparisons.deployment = $deployment)
        group by one, other, rater
        order by one, other, rater
        """,
        {"deployment": deployment},
    )


def wins_between(db: Store, deployment: str, names: Sequence[str]) -> Counts:
    """Return how often each of these releases (record ids) beat each other one, a tie as half a win for both."""
    place = {name: n for n, name in enumerate(names)}
    wins = np.zeros((len(place), len(place)))
    for row in duels(db, deployment):
        if row["one"] in place and row["other"] in place:
            i, j = place[row["one"]], place[row["other"]]
            wins[i, j] += row["won"] + row["tied"] / 2
            wins[j, i] += row["lost"] + row["tied"] / 2
    return wins


def fit(wins: Counts) -> tuple[Counts, Counts]:
    """Return strengths (log-odds, mean 0) and their standard errors; `wins[i, j]` is how often i beat j."""
    strength = _strengths(wins)
    n = len(wins)
    games = wins + wins.T + FURTHER_TIES * ((wins + wins.T) > 0)
    chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    information = games * chance * (1 - chance)
    covariance = np.linalg.pinv(np.diag(information.sum(1)) - information)
    centring = np.eye(n) - 1 / n
    return strength, np.sqrt(np.maximum(np.diag(centring @ covariance @ centring.T), 0.0))


def _strengths(wins: Counts) -> Counts:
    """Bradley-Terry log-odds of connected releases, mean 0."""
    import evalica  # with pandas a second to import, for a page that is seldom asked for

    first, second = np.triu_indices(len(wins), 1)
    played = (wins + wins.T)[first, second] > 0
    first, second = first[played], second[played]
    weights = [*wins[first, second], *wins[second, first], *np.full(len(first), FURTHER_TIES)]
    kinds = [evalica.Winner.X, evalica.Winner.Y, evalica.Winner.Draw]
    winners = [kind for kind in kinds for _ in range(len(first))]
    found = evalica.bradley_terry(
        [*first] * 3, [*second] * 3, winners, weights=weights, tolerance=1e-8, limit=1000
    )
    strength: Counts = np.log(found.scores.reindex(range(len(wins))).to_numpy(dtype=np.float64))
    return strength - strength.mean()


def _standing(duels: Sequence[Row], group: int) -> list[LeaderboardRow]:
    names = sorted({row[side] for row in duels for side in ("one", "other")})
    people = sorted({row["rater"] for row in duels})
    wins = np.zeros((len(people), len(names), len(names)))
    ties = np.zeros_like(wins)
    for row in duels:
        who, i, j = people.index(row["rater"]), names.index(row["one"]), names.index(row["other"])
        wins[who, i, j] += row["won"]
        wins[who, j, i] += row["lost"]
        ties[who, i, j] += row["tied"]
        ties[who, j, i] += row["tied"]
    strength, error = fit(wins.sum(0) + ties.sum(0) / 2)
    low, high = _by_raters(wins + ties / 2)
    low, high = np.minimum(low, strength - Z95 * error), np.maximum(high, strength + Z95 * error)
    won, tied = wins.sum(0), ties.sum(0)
    rows = [
        LeaderboardRow(
            release=name,
            wins=int(won[i].sum()),
            losses=int(won[:, i].sum()),
            ties=int(tied[i].sum()),
            votes=int((won + won.T + tied)[i].sum()),
            score=CENTRE + ELO * float(strength[i]),
            low=CENTRE + ELO * float(low[i]),
            high=CENTRE + ELO * float(high[i]),
            group=group,
        )
        for i, name in enumerate(names)
    ]
    return sorted(rows, key=lambda row: (-row.score, row.release))


def _by_raters(wins: Counts) -> tuple[Any, Any]:
    """Return the 95% interval of each strength over raters drawn again; without two raters, none (infinitely narrow)."""
    people = len(wins)
    if people < 2:
        return np.inf, -np.inf
    generator = np.random.default_rng(0)
    seen = (wins + wins.transpose(0, 2, 1)).sum(0) > 0
    drawn = []
    for _ in range(RESAMPLES):
        counts = np.bincount(generator.integers(0, people, people), minlength=people)
        # a pair that only raters left out have judged keeps its further tie, so that all stay connected
        drawn.append(_strengths(np.einsum("p,pij->ij", counts, wins) + 1e-9 * seen))
    low, high = np.quantile(np.array(drawn), (0.025, 0.975), axis=0)
    return low, high


def _votes(row: Row) -> int:
    return int(row["won"] + row["lost"] + row["tied"])


def _groups(duels: Sequence[Row]) -> list[list[Row]]:
    """Return the comparisons of each set of releases that a chain of comparisons connects."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            name = root[name]
        return name

    for row in duels:
        root[find(row["one"])] = find(row["other"])
    groups: dict[str, list[Row]] = {}
    for row in duels:
        groups.setdefault(find(row["one"]), []).append(row)
    return list(groups.values())
