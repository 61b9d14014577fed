"""The gate: may a release take traffic? A pure function of the suite's report and the thresholds.

It knows no model and no store. A threshold is missed only when the confidence interval says so: with few
held-out pairs the intervals are wide and the gate stops what is surely worse, not what is merely unproven.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.errors import RecipeError

THRESHOLDS = {
    "min_preference_accuracy": "least share of held-out pairs whose chosen answer the release prefers",
    "max_accuracy_drop": "largest drop of that share against the other release, allowed by the interval",
    "max_drift": "largest mean absolute difference of log-probabilities from the other release, nats a token",
    "max_loss_rise": "largest rise of the negative log-likelihood a token against the other release",
    "min_reward_accuracy": "least share of held-out pairs with a higher implicit reward for the chosen answer",
    "max_length_ratio": "largest ratio of the mean answer length to the other release's",
}


@dataclass(frozen=True)
class GateDecision:
    """Whether the release passed, and one sentence for each threshold that was looked at."""

    passed: bool
    reasons: tuple[str, ...]


def decide(report: Mapping[str, Any], thresholds: Mapping[str, Any]) -> GateDecision:
    """Compare a suite's report with thresholds; None or a missing threshold is not looked at.

    A measure that a threshold needs and the report lacks fails when no measure at all was taken, and is said
    to be unmeasured otherwise (a suite on demonstrations has no preference accuracy). Raises `RecipeError`
    for an unknown threshold.
    """
    measures: Mapping[str, Any] = report.get("measures", {})
    if not measures:
        return GateDecision(False, ("nothing was measured",))
    reasons: list[str] = []
    passed = True
    for name, limit in thresholds.items():
        if name not in THRESHOLDS:
            raise RecipeError(name, limit, "a threshold: " + ", ".join(THRESHOLDS))
        if limit is None:
            continue
        ok, reason = _look(name, float(limit), measures)
        passed = passed and ok
        reasons.append(reason)
    return GateDecision(passed, tuple(reasons))


def _look(name: str, limit: float, measures: Mapping[str, Any]) -> tuple[bool, str]:
    if name == "min_preference_accuracy":
        return _at_least("preference_accuracy", limit, measures)
    if name == "min_reward_accuracy":
        return _at_least("reward_accuracy", limit, measures)
    if name == "max_accuracy_drop":
        found = _estimate("preference_accuracy", "difference", measures)
        return _bound("preference accuracy against the other release", found, "high", -limit, at_least=True)
    if name == "max_loss_rise":
        return _bound("loss rise", _estimate("loss", "difference", measures), "low", limit, at_least=False)
    if name == "max_drift":
        return _bound("drift", _estimate("drift", "release", measures), "low", limit, at_least=False)
    lengths = measures.get("answer_tokens", {})
    ours, theirs = lengths.get("release"), lengths.get("against")
    if not ours or not theirs or not theirs["value"]:
        return True, "answer length was not measured"
    ratio = ours["value"] / theirs["value"]
    return _bound(
        "length ratio", {"value": ratio, "low": ratio, "high": ratio, "n": ours["n"]}, "low", limit, False
    )


def _at_least(measure: str, limit: float, measures: Mapping[str, Any]) -> tuple[bool, str]:
    return _bound(
        measure.replace("_", " "), _estimate(measure, "release", measures), "high", limit, at_least=True
    )


def _estimate(measure: str, side: str, measures: Mapping[str, Any]) -> Mapping[str, float] | None:
    found: Mapping[str, float] | None = measures.get(measure, {}).get(side)
    return found


def _bound(
    what: str, found: Mapping[str, float] | None, end: str, limit: float, at_least: bool
) -> tuple[bool, str]:
    if found is None:
        return True, f"{what} was not measured"
    ok = found[end] >= limit if at_least else found[end] <= limit
    sign = (">=" if ok else "<") if at_least else ("<=" if ok else ">")
    return ok, (
        f"{what} {found['value']:.3g} ({found['low']:.3g} to {found['high']:.3g}, n={found['n']}): "
        f"its {'upper' if end == 'high' else 'lower'} end is {sign} {limit:g}"
    )
