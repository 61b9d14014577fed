"""Successive halving: many candidates on few prompts, the better half on twice as many, until few are left.

Jamieson and Talwalkar 2016 (Non-stochastic Best Arm Identification and Hyperparameter Optimization, arXiv:1502.07943).
What a candidate was scored on in one round counts in the next; all candidates of a round are scored on the same prompts.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

Score = Callable[[str, int], Awaitable[float]]
"""Scores a candidate, by name, on the prompt at a place; from 0 to 1."""


@dataclass(frozen=True)
class Round:
    """One round: how many prompts every candidate was scored on, and the mean scores, best first."""

    prompts: int
    standings: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return `{prompts, standings: [{name, score}]}`."""
        return {
            "prompts": self.prompts,
            "standings": [{"name": name, "score": score} for name, score in self.standings],
        }


def plan_rounds(candidates: int, prompts: int, first: int, finalists: int = 1) -> list[tuple[int, int]]:
    """Return `(candidates, prompts)` of each round; the last round has every prompt.

    Raises `ValueError` where there is no candidate or no prompt.
    """
    if candidates < 1 or prompts < 1:
        raise ValueError("at least one candidate and one prompt")
    rounds, many, left = [], min(first, prompts), candidates
    while left > max(1, finalists) and many < prompts:
        rounds.append((left, many))
        left = max(finalists, math.ceil(left / 2))
        many = min(prompts, many * 2)
    return [*rounds, (left, prompts)]


def planned_scores(candidates: int, prompts: int, first: int, finalists: int = 1) -> int:
    """Return how many scores a search computes, each of one candidate on one prompt."""
    total = scored = 0
    for left, many in plan_rounds(candidates, prompts, first, finalists):
        total += left * (many - scored)
        scored = many
    return total


async def halve(
    names: Sequence[str],
    prompts: int,
    score: Score,
    first: int = 8,
    finalists: int = 1,
    on_round: Callable[[Round], None] | None = None,
) -> list[Round]:
    """Score candidates by successive halving; the last round's standings begin with the best.

    Equal scores keep the order of `names`. Raises `ValueError` where there is no candidate or no prompt, and
    what `score` raises.
    """
    known: dict[str, list[float]] = {name: [] for name in names}
    alive, rounds = list(known), []
    for left, many in plan_rounds(len(alive), prompts, first, finalists):
        alive = alive[:left]
        # prompt by prompt, so that a busy moment meets all candidates alike
        wanted = [(name, place) for place in range(many) for name in alive if place >= len(known[name])]
        for (name, _), value in zip(wanted, await _all(wanted, score), strict=True):
            known[name].append(value)
        means = {name: sum(known[name]) / many for name in alive}
        alive.sort(key=lambda name: -means[name])  # stable: equal scores keep their order
        found = Round(many, tuple((name, means[name]) for name in alive))
        rounds.append(found)
        if on_round is not None:
            on_round(found)
    return rounds


async def _all(wanted: Sequence[tuple[str, int]], score: Score) -> list[float]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_one(score, name, place)) for name, place in wanted]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _one(score: Score, name: str, place: int) -> float:
    return await score(name, place)
