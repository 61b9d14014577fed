"""Win rates by people: which pairs of answers they are shown, and what their votes say, alone and with the judge's verdicts.

Judge and people together: prediction-powered inference (PPI++, Angelopoulos et al., arXiv:2311.01453). The judge's mean
over pairs that no person voted on, corrected by what people say of those that they did; how much the judge counts is
estimated, so that a bad one costs next to nothing. It holds whatever the judge is worth: pairs are drawn at random.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from align.evaluation.items import NEUTRAL, Item, by_item, paired
from align.evaluation.measures import Measures
from align.stats import Z, share_interval

Values: TypeAlias = NDArray[np.float64]
MIN_PPI = 10
"""Pairs that people and the judge both decided, and that the judge alone did, below which these are not put together."""


@dataclass(frozen=True)
class PersonVote:
    """One person's vote on a pair of an evaluation: 1 for the release, 0 for the other, 1/2 for neither."""

    item: str
    cluster: str
    value: float


def choose_pairs(items: Sequence[Item], limit: int, seed: str) -> list[tuple[Item, Item]]:
    """Return pairs of answers (release, other) to held-out prompts, one per cluster, `limit` of them drawn by `seed`.

    Answers that are blank or alike are left out: there is nothing to choose between.
    """
    pairs: dict[str, tuple[Item, Item]] = {}
    for mine, theirs in paired(by_item(items, "answer"), "release", "against"):
        texts = (mine.answer or "").strip(), (theirs.answer or "").strip()
        if mine.detail.get("kind") == "heldout" and all(texts) and texts[0] != texts[1]:
            pairs.setdefault(mine.cluster, (mine, theirs))
    drawn = sorted(pairs, key=lambda name: hashlib.sha256(f"people {seed} {name}".encode()).digest())
    return [pairs[name] for name in drawn[:limit]]


def measure_people(items: Sequence[Item], votes: Sequence[PersonVote]) -> Measures:
    """Return the win rate by people, and together with the judge's where it judged further pairs."""
    if not votes:
        return {}
    people = _means((vote.cluster, vote.value) for vote in votes)
    found = {"people_win_rate": {"release": share_interval(list(people.values()))}}
    judge = _means(
        (item.cluster, item.value)
        for item in items
        if item.measure == "judge" and not item.cluster.startswith(NEUTRAL)
    )
    both = [name for name in people if name in judge]
    alone = [name for name in judge if name not in people]
    if min(len(both), len(alone)) >= MIN_PPI:
        found["people_judge_win_rate"] = {
            "release": ppi([people[n] for n in both], [judge[n] for n in both], [judge[n] for n in alone])
        }
    return found


def ppi(people: Sequence[float], judge: Sequence[float], judge_alone: Sequence[float]) -> dict[str, Any]:
    """Return the mean of what people would say of all, with its 95% interval (PPI++, power-tuned).

    `people` and `judge` are of the same independent pairs, `judge_alone` of others from the same population.
    """
    y, f, rest = (np.asarray(values, dtype=np.float64) for values in (people, judge, judge_alone))
    n, m = len(y), len(rest)
    spread = np.concatenate([f, rest]).var(ddof=1)
    weight = 0.0
    if spread > 0:
        weight = float(np.clip(np.cov(y, f)[0, 1] / spread / (1 + n / m), 0.0, 1.0))
    value = float(weight * rest.mean() + (y - weight * f).mean())
    corrected = y - weight * f
    error = math.sqrt(weight**2 * spread / m + corrected.var(ddof=2) / n)
    reach = _t(n - 2) * error
    low, high = max(0.0, value - reach), min(1.0, value + reach)
    return {"value": min(1.0, max(0.0, value)), "low": low, "high": high, "n": n + m}


def _t(degrees: int) -> float:
    from scipy.special import stdtrit  # on first use: the platform starts without it

    return float(stdtrit(degrees, 0.975)) if degrees < 1000 else Z


def _means(values: Iterable[tuple[str, float | None]]) -> Mapping[str, float]:
    """Return the mean of each cluster."""
    found: dict[str, list[float]] = {}
    for name, value in values:
        if value is not None:
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(of_cluster)) for name, of_cluster in found.items()}
