"""When people's votes decide a canary: a betting test over blocks of votes that may be looked at after every vote.

Votes of one rater depend on each other, so the unit is a *block*, whose value is the canary's mean score in it (a win 1,
neither 1/2, a loss 0):

* *team* (few raters): a round, one vote of each active rater; every rater weighs alike. A rater who has not voted
  within `ROUND_DAYS` of a round's beginning is left out of it, so a round is closed by time and never by outcome.
* *crowd* (many raters): one rater's first `CROWD_VOTES` votes; further votes teach and do not decide.

Wealth is the mean over bets c of prod (1 + c (x / m - 1)) over the block values x. Where the true mean is at most m it is
a supermartingale, so it ever reaches 1 / alpha with probability alpha at most (Ville), however often and whenever it is
looked at (Waudby-Smith and Ramdas, JRSS-B 2024, arXiv:2010.09686). A tie multiplies it by 1 at m = 1/2.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["promote", "rollback"]
Kind = Literal["team", "crowd"]

BETS = tuple(n / 20 for n in range(1, 20, 2))  # at m = 1/2: .1, .3, ... 1.9 per unit of score above it
TEAM_MOST = 15  # raters; with more, a round of all of them never ends
CROWD_VOTES = 5
ROUND_DAYS = 3.0
EQUAL = 0.5


@dataclass(frozen=True, slots=True)
class CanaryVote:
    """One vote that may decide: who, when (UTC), and the canary's score, 1 for a win, 1/2 for neither, 0 for a loss."""

    rater: str
    at: datetime
    score: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the votes say of a canary.

    `promote` and `rollback` are the largest wealths that betting for and against it has reached; `low` and `high` bound its
    mean score at any time at once; `without` names raters without whose votes the evidence would not be enough.
    """

    kind: Kind
    blocks: int
    votes: int
    mean: float | None
    low: float
    high: float
    promote: float
    rollback: float
    verdict: Verdict | None
    without: tuple[str, ...] = ()


def kind_of(raters: int) -> Kind:
    """Return which blocks a canary's votes make, by how many people may rate; decided before its first vote."""
    return "team" if raters <= TEAM_MOST else "crowd"


def blocks(
    votes: Sequence[CanaryVote], kind: Kind, members: Collection[str] = (), until: datetime | None = None
) -> list[float]:
    """Return the values of the complete blocks of `votes`, which are in order of time.

    `members` are the raters who were active before the canary began; `until` is the time at which rounds that
    have lasted too long are closed (without it, that of the last vote).
    """
    return _rounds(votes, members, until) if kind == "team" else _first_votes(votes)


def wealth(values: Sequence[float], mean: float = EQUAL) -> float:
    """Return the largest wealth that bets on a true mean above `mean` have reached; infinite where it overflows."""
    return max(1.0, float(_paths(values, mean).max(initial=1.0)))


def wealth_against(values: Sequence[float], mean: float = EQUAL) -> float:
    """Return the same for bets on a true mean below `mean`."""
    return wealth([1 - value for value in values], 1 - mean)


def interval(values: Sequence[float], alpha: float) -> tuple[float, float]:
    """Return the means that no bet rules out, at any time at once; together they hold the truth with 1 - `alpha`."""
    grid = np.linspace(0.01, 0.99, 99)
    kept = [
        m
        for m in grid
        if wealth(values, float(m)) < 2 / alpha and wealth_against(values, float(m)) < 2 / alpha
    ]
    if not kept:
        return 0.0, 1.0
    return (0.0 if kept[0] == grid[0] else float(kept[0])), (1.0 if kept[-1] == grid[-1] else float(kept[-1]))


def weigh(
    votes: Sequence[CanaryVote],
    kind: Kind,
    *,
    alpha_promote: float,
    alpha_rollback: float,
    min_votes: int = 1,
    members: Collection[str] = (),
    until: datetime | None = None,
) -> Evidence:
    """Return the evidence of a canary's votes and what it decides.

    Below `min_votes` votes that prefer one of the two nothing is decided. Raises `ValueError` for an alpha
    outside (0, 1).
    """
    if not (0 < alpha_promote < 1 and 0 < alpha_rollback < 1):
        raise ValueError("alpha is between 0 and 1")

    def decide(
        counted: Sequence[CanaryVote], among: Collection[str], least: int
    ) -> tuple[list[float], Verdict | None]:
        values = blocks(counted, kind, among, until)
        return values, _decide(counted, values, alpha_promote, alpha_rollback, least)

    values, found = decide(votes, members, min_votes)
    without = []
    for name in dict.fromkeys(vote.rater for vote in votes) if found else ():
        rest = [vote for vote in votes if vote.rater != name]
        if decide(rest, set(members) - {name}, 1)[1] != found:
            without.append(name)
    low, high = interval(values, alpha_rollback)
    return Evidence(
        kind=kind,
        blocks=len(values),
        votes=len(votes),
        mean=math.fsum(values) / len(values) if values else None,
        low=low,
        high=high,
        promote=wealth(values),
        rollback=wealth_against(values),
        verdict=found,
        without=tuple(without),
    )


def not_worse(values: Sequence[float], by: float, alpha: float) -> bool:
    """Tell whether bets rule out that the canary's mean score is lower than one half by `by` or more."""
    return wealth(values, EQUAL - by) >= 1 / alpha


def spent(alpha: float, number: int) -> float:
    """Return what the `number`-th canary (from 1) of a year may spend of `alpha`; all of them together spend `alpha`."""
    return alpha * 6 / (math.pi**2 * number**2)


def _decide(
    votes: Collection[CanaryVote], values: Sequence[float], promote: float, rollback: float, min_votes: int
) -> Verdict | None:
    if sum(vote.score != EQUAL for vote in votes) < min_votes:
        return None
    if wealth(values) >= 1 / promote:
        return "promote"
    return "rollback" if wealth_against(values) >= 1 / rollback else None


def _paths(values: Sequence[float], mean: float) -> NDArray[np.float64]:
    """Return the wealth after each block."""
    if not len(values):
        return np.ones(0)
    gains = np.asarray(values, dtype=np.float64)[:, None] / mean - 1
    with np.errstate(over="ignore"):
        path: NDArray[np.float64] = np.exp(np.log1p(np.array(BETS) * gains).cumsum(axis=0)).mean(axis=1)
    return path


def _first_votes(votes: Sequence[CanaryVote]) -> list[float]:
    """Return one block per rater, in order of their completion."""
    own: dict[str, list[float]] = {}
    values = []
    for vote in votes:
        mine = own.setdefault(vote.rater, [])
        mine.append(vote.score)
        if len(mine) == CROWD_VOTES:
            values.append(math.fsum(mine) / CROWD_VOTES)
    return values


def _rounds(
    votes: Sequence[CanaryVote], members: Collection[str] = (), until: datetime | None = None
) -> list[float]:
    """Return one block per round: the next vote of each active rater, `members` and whoever has voted since.

    A further vote of the same rater waits for the next round. Who is left out of a round is waited for again
    once they vote.
    """
    rounds = _Rounds(set(members))
    for vote in votes:
        rounds.advance(vote.at)
        rounds.add(vote)
        rounds.advance(vote.at)
    if until is not None:
        rounds.advance(until)
    return rounds.values


class _Rounds:
    """Votes that wait for their round, and the rounds that are closed."""

    def __init__(self, active: set[str]) -> None:
        self.values: list[float] = []
        self._active = active
        self._began: datetime | None = None
        self._waiting: dict[str, deque[float]] = {}

    def add(self, vote: CanaryVote) -> None:
        """Put a vote into its rater's queue."""
        self._waiting.setdefault(vote.rater, deque()).append(vote.score)
        self._active.add(vote.rater)
        self._began = self._began or vote.at

    def advance(self, now: datetime) -> None:
        """Close every round that is complete, or out of time, at `now`."""
        while self._began is not None:
            due = self._began + timedelta(days=ROUND_DAYS)
            if all(self._waiting.get(name) for name in self._active):
                self._close(self._began)
            elif now > due:
                self._close(due)
            else:
                return

    def _close(self, at: datetime) -> None:
        present = {name for name, queue in self._waiting.items() if queue}
        self.values.append(math.fsum(self._waiting[name].popleft() for name in present) / len(present))
        self._active = present
        self._began = at if any(self._waiting.values()) else None
