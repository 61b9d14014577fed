"""The gate: report and checks in, verdict and reasons out; the bad turns that the defaults must not let through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from align.errors import RecipeError
from align.evaluation.drift import measure_surprise
from align.evaluation.gate import BOUNDS, DEFAULT_CHECKS, Check, decide, default_checks, with_overrides
from align.stats import difference_interval, mean_interval, ratio_interval, share_interval


def estimate(value: float, width: float = 0.1, n: int = 40) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width, "n": n}


REPORT = {
    "measures": {
        "preference_accuracy": {"release": estimate(0.6), "difference": estimate(-0.05)},
        "loss": {"difference": estimate(0.3), "anchor_difference": estimate(0.9)},
        "anything": {"release": estimate(0.5), "difference": estimate(0.3)},
    }
}


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (Check("anything", min=0.4), "pass"),
        (Check("anything", min=0.41), "undecided"),
        (Check("anything", min=0.6), "fail"),  # undecided, but the value itself is below
        (Check("anything", min=0.61), "fail"),
        (Check("anything", max=0.6), "pass"),
        (Check("anything", max=0.5), "undecided"),
        (Check("anything", max=0.39), "fail"),
        (Check("anything", not_worse_than_stable_by=0.0), "pass"),  # more is better of a measure nobody knows
        (Check("preference_accuracy", not_worse_than_stable_by=0.16), "pass"),
        (Check("preference_accuracy", not_worse_than_stable_by=0.1), "undecided"),
        (Check("loss", not_worse_than_stable_by=0.4), "pass"),  # less is better
        (Check("loss", not_worse_than_stable_by=0.1), "fail"),
        (Check("loss", not_worse_than_anchor_by=0.5), "fail"),
        (Check("nothing", min=0.0), "undecided"),
    ],
)
def test_a_check_is_judged_at_the_unfavourable_end(check: Check, verdict: str) -> None:
    decision = decide(REPORT, [check])
    assert (decision.verdict, decision.passed) == (verdict, verdict == "pass")
    assert len(decision.reasons) == 1


def test_a_value_beyond_its_bound_is_rejected_though_its_interval_does_not_exclude_it() -> None:
    for value, n, verdict in ((0.45, 40, "fail"), (0.55, 40, "undecided"), (0.45, 5, "undecided")):
        report = {"measures": {"win_rate": {"release": estimate(value, n=n)}}}
        decision = decide(report, [Check("win_rate", min=0.5)])
        assert decision.verdict == verdict
        assert decision.checks[0].outcome == "undecided"
        assert ("enough to reject" in decision.reasons[0]) is (verdict == "fail")


def test_a_fail_outweighs_an_undecided_and_an_undecided_a_pass() -> None:
    passes, undecided, fails = (Check("anything", min=limit) for limit in (0.1, 0.5, 0.9))
    assert decide(REPORT, [passes, undecided]).verdict == "undecided"
    assert decide(REPORT, [passes, undecided, fails]).verdict == "fail"


def test_missing_measure_is_undecided_and_never_passed() -> None:
    assert decide({}, DEFAULT_CHECKS).verdict == "undecided"
    only_loss = {"measures": {"loss": {"release": estimate(2)}}}
    for bound in BOUNDS:
        for measure in ("loss", "win_rate"):
            decision = decide(only_loss, [Check(measure, **{bound: 0.5})])
            if (measure, bound) not in {("loss", "min"), ("loss", "max")}:
                assert decision.verdict == "undecided"
                assert "not measured" in decision.reasons[0]
    assert decide(only_loss, [Check("win_rate", min=0.5, required=False)]).verdict == "undecided"
    assert decide(only_loss, []).verdict == "undecided"


def test_a_check_that_is_not_required_counts_once_it_is_measured() -> None:
    checks = [Check("anything", min=0.1), Check("kl", max=0.5, required=False)]
    assert decide(REPORT, checks).verdict == "pass"
    measured = {"measures": REPORT["measures"] | {"kl": {"release": estimate(0.9)}}}
    assert decide(measured, checks).verdict == "fail"


def test_few_items_never_pass_and_one_item_decides_nothing() -> None:
    few = {"measures": {"kl": {"release": estimate(0.2, n=5)}}}
    assert decide(few, [Check("kl", max=0.5)]).verdict == "undecided"
    assert decide(few, [Check("kl", max=0.5)], min_items=5).verdict == "pass"
    one = {"measures": {"kl": {"release": mean_interval([9.0])}}}
    assert decide(one, [Check("kl", max=0.5)]).verdict == "undecided"


def test_one_bound_exactly() -> None:
    for bounds in ({}, {"min": 0.1, "max": 0.2}):
        with pytest.raises(RecipeError, match="exactly one of min, max"):
            Check("kl", **bounds)


def test_a_check_of_ones_own_takes_the_place_of_the_default() -> None:
    own = Check("reward_accuracy", min=0.7)
    checks = with_overrides(DEFAULT_CHECKS, [own, Check("drift", max=1.0)])
    assert [c for c in checks if c.measure == "reward_accuracy"] == [own]
    assert len(checks) == len(DEFAULT_CHECKS) + 1


def test_the_decision_as_json() -> None:
    found = decide(REPORT, [Check("anything", min=0.4)]).to_json()
    assert (found["passed"], found["verdict"]) == (True, "pass")
    assert found["checks"][0] == {
        "measure": "anything",
        "bound": "min",
        "limit": 0.4,
        "outcome": "pass",
        "required": True,
        "estimate": estimate(0.5),
    }


def test_reasons_begin_with_what_failed_and_say_what_it_means() -> None:
    measures = {
        "kl": {"release": estimate(0.1)},
        "reward_accuracy": {"release": estimate(0.52)},
        "rep4": {"difference": estimate(0.8)},
    }
    checks = [Check("kl", max=0.5), Check("win_rate", min=0.5, required=False)]
    checks += [Check("reward_accuracy", min=0.5), Check("rep4", not_worse_than_stable_by=0.15)]
    reasons = decide({"measures": measures}, checks).reasons
    assert [reason.split()[0] for reason in reasons] == ["rep4", "reward", "kl", "win"]
    assert "answers repeat themselves" in reasons[0]
    assert "do not show that it learned what raters prefer" in reasons[1]


def test_demonstrations_that_are_noise_to_stable_are_rejected_though_they_became_likelier() -> None:
    """Random syllables: 7.0 nats per token beside 3.8 of neutral texts, and no other damage."""
    texts = {"against": {"value": 46.4, "low": 34.9, "high": 61.7, "n": 12}}
    checks = default_checks("sft")
    for nats, verdict in ((7.0, "fail"), (3.0, "pass"), (1.5, "pass")):
        rows = {"loss": {"against": estimate(nats, 0.15, 29)}}
        report = Turn(0, 40, gain=0.75).report()
        del report["measures"]["reward_accuracy"]
        report["measures"] |= measure_surprise(rows, {"perplexity": texts})
        assert decide(report, checks).verdict == verdict
    pairs = {"loss": {"against": estimate(7.0)}, "reward_margin": {"release": estimate(1.0)}}
    assert measure_surprise(pairs, {"perplexity": texts}) == {}
    assert measure_surprise({}, {"perplexity": texts}) == {}


def test_demonstrations_must_have_become_likelier_and_need_no_reward() -> None:
    checks = default_checks("sft")
    assert not [check for check in checks if check.measure == "reward_accuracy"]
    assert Check("chosen_logp_per_token", not_worse_than_stable_by=0.0) in checks
    assert default_checks("dpo") == default_checks("kto") == DEFAULT_CHECKS
    report = Turn(0, 40, gain=0.3).report()
    del report["measures"]["reward_accuracy"]
    found = decide(report, checks)
    assert (found.verdict, found.compared) == ("pass", False)
    assert decide(Turn(0, 40, gain=0.3).report(), DEFAULT_CHECKS).compared
    report["measures"]["chosen_logp_per_token"]["difference"] = estimate(-0.15)
    assert decide(report, checks).verdict == "fail"


class Turn:
    """A release's report, drawn from what is true of it; as good as a turn that learned, unless said otherwise."""

    def __init__(self, seed: int, n: int, **truth: Any) -> None:
        self.random, self.n = np.random.default_rng(seed), n
        usual = {"right": 0.8, "gain": 0.05, "gain_from_anchor": 0.05, "length": 1.0, "kl": 0.1, "rise": 0.02}
        self.truth = usual | dict.fromkeys(("cut_share", "refusal_share", "rep4", "empty_share"), 0.0) | truth

    def report(self) -> dict[str, Any]:
        measures: dict[str, Any] = {
            "reward_accuracy": {"release": share_interval(self._share("right"))},
            "chosen_logp_per_token": {
                "difference": mean_interval(self._normal("gain")),
                "anchor_difference": mean_interval(self._normal("gain_from_anchor")),
            },
        }
        stable = 40 * np.exp(0.3 * self.random.normal(size=self.n))
        measures["length_ratio"] = {"release": ratio_interval(stable * self.truth["length"], stable)}
        for name in ("cut_share", "refusal_share", "rep4", "empty_share"):
            values = self._share(name, answers := max(40, self.n))
            difference = difference_interval(values, np.zeros(answers))
            measures[name] = {"release": share_interval(values), "difference": difference}
        if "anchor_right" in self.truth:
            measures["anchor_reward_accuracy"] = {"release": share_interval(self._share("anchor_right"))}
        measures["kl"] = {"release": mean_interval(self._normal("kl"))}
        rises = self.truth["rise"] + 0.02 * self.random.normal(size=12)
        measures["perplexity_ratio"] = {"release": mean_interval(np.exp(rises))}
        return {"measures": measures}

    def _share(self, name: str, n: int | None = None) -> Any:
        return (self.random.random(n or self.n) < self.truth[name]).astype(float)

    def _normal(self, name: str) -> Any:
        return self.truth[name] + 0.15 * self.random.normal(size=self.n)


def verdicts(n: int, stories: int = 200, **truth: Any) -> dict[str, float]:
    found = [decide(Turn(seed, n, **truth).report(), DEFAULT_CHECKS).verdict for seed in range(stories)]
    return {kind: found.count(kind) / stories for kind in ("pass", "undecided", "fail")}


def test_a_turn_that_learned_passes() -> None:
    assert verdicts(64)["pass"] > 0.95
    assert verdicts(16, right=0.95)["pass"] > 0.8


BAD_TURNS: dict[str, dict[str, Any]] = {
    "flipped votes": {"right": 0.3},
    "endless repetition": {"rep4": 0.9, "gain": -3.0},
    "truncation": {"cut_share": 0.9},
    "refusal of everything": {"refusal_share": 0.95},
    "SFT on garbage": {"kl": 2.5, "rep4": 0.3, "gain": -2.0},
    "ten small steps down": {"right": 0.48, "gain": -0.05, "gain_from_anchor": -0.5, "anchor_right": 0.25},
}


@pytest.mark.parametrize("name", list(BAD_TURNS))
def test_bad_turns_are_rejected(name: str) -> None:
    found = verdicts(64, **BAD_TURNS[name])
    assert found["pass"] == 0
    assert found["fail"] > 0.8


@pytest.mark.parametrize("n", [6, 16, 64])
def test_coin_flip_votes_hardly_ever_pass(n: int) -> None:
    """Pass means the whole interval is above one half: 2.5% of the time, and what discreteness adds."""
    assert verdicts(n, 400, right=0.5)["pass"] < 0.055


def test_a_turn_that_learned_is_hardly_ever_rejected() -> None:
    """Also where few prompts leave it undecided: its values are on the right side of their bounds."""
    for n, right in ((16, 0.8), (16, 0.7), (40, 0.65)):
        assert verdicts(n, 400, right=right)["fail"] < 0.07


@pytest.mark.parametrize("n", [6, 10, 16])
def test_flipped_votes_do_not_pass_on_few_prompts(n: int) -> None:
    assert verdicts(n, right=0.3)["pass"] <= 0.01


def test_suite_without_generated_answers_promotes_none_of_them() -> None:
    """Without health measures, repetition and garbage are still caught by what the chosen answers lost."""
    for name in ("endless repetition", "SFT on garbage"):
        truth = {key: value for key, value in BAD_TURNS[name].items() if key == "gain"}
        assert verdicts(16, **truth)["fail"] == 1


def test_the_keys_of_before_become_checks() -> None:
    from trimtab.config.rollout_sections import GateSettings

    assert GateSettings().all_checks() == DEFAULT_CHECKS
    settings = GateSettings(
        checks=({"measure": "kl", "max": 0.4},),  # type: ignore[arg-type]
        min_preference_accuracy=0.6,
        max_accuracy_drop=0.1,
        max_drift=0.5,
        max_loss_rise=0.2,
        min_reward_accuracy=0.7,
        max_length_ratio=2.0,
    )
    assert settings.all_checks() == (
        Check("kl", max=0.4),
        Check("preference_accuracy", min=0.6),
        Check("preference_accuracy", not_worse_than_stable_by=0.1),
        Check("drift", max=0.5),
        Check("loss", not_worse_than_stable_by=0.2),
        Check("reward_accuracy", min=0.7),
        Check("length_ratio", max=2.0),
    )
    assert GateSettings(min_reward_accuracy=0.9).all_checks("sft") == default_checks("sft")
    raised = GateSettings(min_reward_accuracy=0.9).all_checks()
    assert [check.min for check in raised if check.measure == "reward_accuracy"] == [0.9]
