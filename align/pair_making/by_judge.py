"""Answers compared by a judge: every two of a prompt in both orders; verdicts that follow the order decide nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from align.evaluation.judging.judge import JudgeApi, score_of
from align.pair_making.choice import Against, Chosen, choose


@dataclass(frozen=True, slots=True)
class Judged:
    """A judge's verdicts on the answers to one prompt: each two places with 1 (the first wins), 1/2, 0 or None (invalid)."""

    count: int
    verdicts: tuple[tuple[int, int, float | None], ...]

    @property
    def invalid(self) -> int:
        """How many comparisons have no valid verdict."""
        return sum(value is None for _, _, value in self.verdicts)

    def scores(self) -> list[float]:
        """Return how many comparisons each answer won, ties half."""
        scores = [0.0] * self.count
        for first, second, value in self.verdicts:
            if value is not None:
                scores[first] += value
                scores[second] += 1 - value
        return scores

    def beats(self, one: int, other: int) -> bool:
        """Return whether the judge prefers one answer to another in both orders."""
        values = {(first, second): value for first, second, value in self.verdicts}
        value = values.get((one, other))
        return value == 1.0 if value is not None else values.get((other, one)) == 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"count": self.count, "verdicts": [list(one) for one in self.verdicts]}


def from_json(value: Mapping[str, Any]) -> Judged:
    """Return what `to_json` gave."""
    return Judged(value["count"], tuple((i, j, verdict) for i, j, verdict in value["verdicts"]))


async def compare_all(judge: JudgeApi, messages: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> Judged:
    """Have a judge compare every two of the answers to a prompt."""
    places = list(combinations(range(len(texts)), 2))
    found = await asyncio.gather(*(judge.judge(messages, texts[i], texts[j]) for i, j in places))
    verdicts = [(i, j, score_of(said)) for (i, j), said in zip(places, found, strict=True)]
    return Judged(len(texts), tuple(verdicts))


def choose_by_judge(texts: Sequence[str], judged: Judged, against: Against) -> Chosen | None:
    """Return the pair that the judge's verdicts make; None where it does not prefer the one in both orders."""
    return choose(texts, judged.scores(), judged.beats, against)


def requests_of(n: int) -> int:
    """Return how many requests `n` answers to a prompt take at most, without repeats."""
    return n * (n - 1)
