"""Measures of a judge: its win rates, how it kept to the rules, and how it agrees with people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from align.evaluation.items import Item
from align.evaluation.measures import Measures
from align.evaluation.win_rate import win_rates
from align.stats import share_interval

VOTED = 50
"""Comparisons that people decided which a judge must have been asked about before it counts in a gate."""

MAX_INVALID_SHARE = 0.05
MAX_ORDER_SHARE = 0.6
"""Share of pairs that are judged by their order beyond which a judge is unusable."""

RESAMPLES = 1000
_VALUES = {"a": 1.0, "tie": 0.5, "b": 0.0}


def measure_judge(items: Sequence[Item]) -> Measures:
    """Return the judge's measures; its win rates stand under `release` only where it may count, else under `unproven`."""
    asked = [item for item in items if item.measure == "judge"]
    voted = [item for item in items if item.measure == "judge_vote"]
    if not asked:
        return {}
    measures, agreement = _reliability([*asked, *voted], voted)
    why = _why_not(measures, agreement)
    for name, estimate in win_rates([item for item in asked if item.value is not None]).items():
        found = {"unproven": estimate | {"why": why}} if why else {"release": estimate}
        measures[f"judge_{name}"] = found
    return measures


def _reliability(every: Sequence[Item], voted: Sequence[Item]) -> tuple[Measures, dict[str, Any] | None]:
    """Return the measures of how a judge kept to the rules and of its agreement with people, and the agreement."""
    measures: Measures = {
        "judge_invalid_share": {"release": share_interval([float(item.value is None) for item in every])}
    }
    valid = [item for item in every if item.value is not None]
    if valid:
        by_order = [float(len(set(item.detail["verdicts"])) > 1) for item in valid]
        measures["judge_order_share"] = {"release": share_interval(by_order)}
    agreement = _agreement([item for item in voted if item.value is not None])
    if agreement:
        measures["judge_agreement"] = {"release": agreement}
    return measures, agreement


@dataclass(frozen=True)
class Calibration:
    """How a judge agrees with people; `why` says why it does not count as calibrated, None where it does."""

    agreement: dict[str, Any] | None
    order_share: float | None
    invalid_share: float | None
    why: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def calibration(voted: Sequence[Item]) -> Calibration:
    """Return how a judge does on comparisons that people decided (items `judge_vote`); as a gate requires it."""
    if not voted:
        return Calibration(None, None, None, _too_few(0))
    measures, agreement = _reliability(voted, voted)
    order, invalid = (
        measures.get(name, {}).get("release", {}).get("value")
        for name in ("judge_order_share", "judge_invalid_share")
    )
    return Calibration(agreement, order, invalid, _why_not(measures, agreement))


def _why_not(measures: Measures, agreement: dict[str, Any] | None) -> str | None:
    """Say why the judge does not count, None where it does."""
    invalid = measures["judge_invalid_share"]["release"]["value"]
    if invalid > MAX_INVALID_SHARE:
        return f"{invalid:.0%} of its verdicts are invalid, more than {MAX_INVALID_SHARE:.0%}"
    order = measures.get("judge_order_share", {}).get("release", {}).get("value", 1.0)
    if order > MAX_ORDER_SHARE:
        return f"{order:.0%} of its verdicts follow the order of the answers, more than {MAX_ORDER_SHARE:.0%}"
    n = agreement["n"] if agreement else 0
    if agreement is None or n < VOTED:
        return _too_few(n)
    if not agreement["low"] > 0:
        return f"it does not agree with people beyond chance: kappa {agreement['value']:.2f}, from {agreement['low']:.2f}"
    return None


def _too_few(n: int) -> str:
    return f"it was compared with people on {n} comparisons, fewer than {VOTED}"


def _agreement(voted: Sequence[Item]) -> dict[str, Any] | None:
    """Cohen's kappa between judge and people, with the interval of clusters drawn again."""
    if not voted:
        return None
    judge = np.asarray([item.value for item in voted])
    people = np.asarray([_VALUES[item.detail["people"]] for item in voted])
    clusters = np.asarray([item.cluster for item in voted])
    names = np.unique(clusters)
    places = {name: np.flatnonzero(clusters == name) for name in names}
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([places[name] for name in generator.choice(names, len(names))])
        drawn.append(_kappa(judge[chosen], people[chosen]))
    tails: Any = np.quantile(drawn, (0.025, 0.975))
    low, high = (float(tail) for tail in tails) if len(names) > 1 else (None, None)
    return {"value": _kappa(judge, people), "low": low, "high": high, "n": len(names)}


def _kappa(judge: Any, people: Any) -> float:
    kinds = (0.0, 0.5, 1.0)
    chance = sum(float((judge == kind).mean() * (people == kind).mean()) for kind in kinds)
    agreed = float((judge == people).mean())
    return 0.0 if chance >= 1 else (agreed - chance) / (1 - chance)
