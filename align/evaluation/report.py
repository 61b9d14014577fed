"""The report of an evaluation: a pure function of its items."""

from __future__ import annotations

from collections.abc import Sequence

from align.evaluation.drift import measure_drift, measure_surprise
from align.evaluation.health import measure_health
from align.evaluation.items import Item
from align.evaluation.judging.judge_measures import measure_judge
from align.evaluation.measures import Measures, measure
from align.evaluation.scoring import scores_of
from align.evaluation.win_rate import measure_wins


def measures_of(items: Sequence[Item]) -> Measures:
    """Return every measure that the items give; the same items give the same figures."""
    rows, scores = scores_of(items)
    measures: Measures = {}
    if "release" in scores:
        measures |= measure(rows, scores["release"], scores.get("against"), scores.get("anchor"))
    drift = measure_drift(items)
    measures |= measure_surprise(measures, drift)
    return measures | measure_health(items) | drift | measure_wins(items) | measure_judge(items)
