"""The gate as a table: report and thresholds in, decision and reasons out."""

from __future__ import annotations

from typing import Any

import pytest

from align.errors import RecipeError
from align.evaluation.gate import THRESHOLDS, decide


def estimate(value: float, width: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width, "n": 40}


REPORT = {
    "measures": {
        "preference_accuracy": {"release": estimate(0.6), "difference": estimate(-0.05)},
        "reward_accuracy": {"release": estimate(0.7)},
        "loss": {"release": estimate(2.0), "difference": estimate(0.3)},
        "drift": {"release": estimate(0.5)},
        "answer_tokens": {"release": estimate(30), "against": estimate(20)},
    }
}


@pytest.mark.parametrize(
    ("thresholds", "passed"),
    [
        ({}, True),
        ({"min_preference_accuracy": 0.7}, True),  # the interval reaches 0.7: not surely below
        ({"min_preference_accuracy": 0.71}, False),
        ({"max_accuracy_drop": 0.0}, True),  # a drop of 0.05 +- 0.1 may be none
        ({"min_reward_accuracy": 0.9}, False),
        ({"max_loss_rise": 0.2}, True),
        ({"max_loss_rise": 0.1}, False),  # surely rose by 0.2
        ({"max_drift": 0.4}, True),
        ({"max_drift": 0.3}, False),
        ({"max_drift": None}, True),
        ({"max_length_ratio": 1.6}, True),
        ({"max_length_ratio": 1.4}, False),
        ({"min_preference_accuracy": 0.5, "max_drift": 0.3}, False),
    ],
)
def test_thresholds(thresholds: dict[str, Any], passed: bool) -> None:
    decision = decide(REPORT, thresholds)
    assert decision.passed is passed
    assert len(decision.reasons) == len([v for v in thresholds.values() if v is not None])


def test_a_sure_drop_is_stopped() -> None:
    report = {"measures": {"preference_accuracy": {"release": estimate(0.4), "difference": estimate(-0.2)}}}
    decision = decide(report, {"max_accuracy_drop": 0.05})
    assert not decision.passed
    assert "n=40" in decision.reasons[0]


def test_no_measure_does_not_pass_and_a_missing_one_is_said() -> None:
    assert decide({}, {}).passed is False
    only_loss = {"measures": {"loss": {"release": estimate(2)}}}
    for name in THRESHOLDS:
        decision = decide(only_loss, {name: 0.5})
        assert decision.passed
        assert "not measured" in decision.reasons[0]


def test_an_unknown_threshold_is_refused() -> None:
    with pytest.raises(RecipeError, match="min_accuracy"):
        decide(REPORT, {"min_accuracy": 0.5})


def test_the_settings_of_the_platform_are_thresholds() -> None:
    from trimtab.config.settings import GateSettings

    assert set(GateSettings.model_fields) - {"suite"} <= set(THRESHOLDS)
