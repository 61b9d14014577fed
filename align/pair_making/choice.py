"""Which two of several answers to a prompt make a pair: the best, and the worst or a low one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from align.evaluation.rules import words

Against = Literal["worst", "low"]
"""What the best answer is paired with: the worst of all, or the one above it."""

Cut = Literal["drop", "reject"]
"""What becomes of answers that were cut: they are not used, or are worse than every whole one."""

ALIKE = 0.9
"""Jaccard similarity of words and word pairs above which two answers are too alike to learn from."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer, and how it ended."""

    text: str
    finish_reason: str | None = "stop"
    tokens: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether it has no end of its own."""
        return self.finish_reason != "stop"

    @property
    def is_blank(self) -> bool:
        """Whether it says nothing."""
        return not self.text.strip()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"text": self.text, "finish_reason": self.finish_reason, "tokens": self.tokens}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The places of the two answers of a pair, and the ranks they have (0 is the best)."""

    chosen: int
    rejected: int
    ranks: tuple[int, int]


def usable(answers: Sequence[Answer], keep_cut: bool = False) -> list[int]:
    """Return the places of the answers that a pair may be made of: whole, not blank, each text once.

    `keep_cut` keeps answers that reached their max tokens, for pairs in which such an answer may be the rejected one.
    """
    seen: set[str] = set()
    places = []
    for place, answer in enumerate(answers):
        if (keep_cut or not answer.is_cut) and not answer.is_blank and answer.text.strip() not in seen:
            seen.add(answer.text.strip())
            places.append(place)
    return places


def choose(
    texts: Sequence[str],
    scores: Sequence[float] | Sequence[tuple[float, int]],
    better: Callable[[int, int], bool],
    against: Against = "worst",
) -> Chosen | None:
    """Return the best answer with the worst, or with a low one; None where none is clearly better or they are alike.

    `better(i, j)` says whether the answer `i` is clearly better than `j`. A low answer is the one above the worst, where
    there is one that the best is clearly better than.
    """
    if len(texts) < 2:
        return None
    order = sorted(range(len(texts)), key=scores.__getitem__, reverse=True)
    best, rank = order[0], len(order) - 1
    if against == "low" and len(order) > 2 and better(best, order[-2]):
        rank -= 1
    worst = order[rank]
    if not better(best, worst) or similarity(texts[best], texts[worst]) > ALIKE:
        return None
    return Chosen(best, worst, (0, rank))


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts' words and word pairs, 0 to 1."""
    first, second = _parts(one), _parts(other)
    union = sum((first | second).values())
    return sum((first & second).values()) / union if union else 1.0


def _parts(text: str) -> Counter[tuple[str, ...]]:
    found = [word.lower() for word in words(text)]
    return Counter([*((word,) for word in found), *pairwise(found)])
