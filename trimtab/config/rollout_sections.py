"""Settings of what may take traffic: gate and canary."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from align.evaluation import BUILT_IN_SUITES
from align.evaluation.gate import BOUNDS, Check, checks_without_votes, default_checks, with_overrides
from serve.gateway.canary_monitor import CanaryPolicy
from trimtab.config.section import Section

# The value classes that the sections build; their defaults are written there alone.
_ALARM = CanaryPolicy()


class GateCheck(Section):
    """One bound on one measure of the suite; exactly one of the four bounds is given."""

    measure: str = Field(min_length=1, description="name of a measure of the suite's report")
    min: float | None = Field(None, description="least value")
    max: float | None = Field(None, description="largest value")
    not_worse_than_stable_by: float | None = Field(
        None, ge=0, description="how much worse than the stable release it may be"
    )
    not_worse_than_anchor_by: float | None = Field(
        None, ge=0, description="how much worse than the last release that an operator approved it may be"
    )
    required: bool = Field(True, description="false leaves the check out where its measure was not taken")

    @model_validator(mode="after")
    def _one_bound(self) -> GateCheck:
        given = [name for name in BOUNDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{self.measure}: {' and '.join(given) or 'no bound'} given; accepted: exactly one of "
                + ", ".join(BOUNDS)
            )
        return self


class GateSettings(Section):
    """What a release must reach in its evaluation before it may take traffic."""

    suite: str = Field(
        "default",
        description="what a run's release is measured by: quick, default, full, or the path of a .toml file of your own "
        "(docs/evaluation.md)",
    )
    checks: tuple[GateCheck, ...] | None = Field(
        None,
        description="checks, each `{measure, min | max | not_worse_than_stable_by | not_worse_than_anchor_by, required}`; "
        "none takes those of docs/evaluation.md",
    )
    on_undecided: Literal["reject", "canary", "ask"] = Field(
        "canary",
        description="what becomes of a release that the checks neither pass nor fail: rejected, a canary at most, or "
        "published until a person decides",
    )
    min_items: int = Field(
        6, ge=1, description="independent prompts below which a check is undecided, whatever its interval"
    )
    min_preference_accuracy: float | None = Field(
        None, ge=0, le=1, description="least held-out preference accuracy of the new release; a further check"
    )
    max_accuracy_drop: float | None = Field(
        None, ge=0, le=1, description="largest drop of that accuracy against stable; a further check"
    )
    max_drift: float | None = Field(
        None,
        gt=0,
        description="largest mean absolute log-probability difference from stable, nats per token; a further check",
    )
    max_loss_rise: float | None = Field(
        None,
        gt=0,
        description="largest rise of the negative log-likelihood against stable, nats per token; a further check",
    )
    min_reward_accuracy: float | None = Field(
        None,
        ge=0,
        le=1,
        description="least share of held-out pairs with the higher implicit reward for the chosen answer, in place of "
        "the default 0.5",
    )
    max_length_ratio: float | None = Field(
        None,
        gt=0,
        description="largest ratio of the mean answer length to that of stable, in place of the default 2.5",
    )

    @field_validator("suite")
    @classmethod
    def _can_be_read(cls, value: str) -> str:
        if value not in BUILT_IN_SUITES:
            from align.evaluation.suite_file import (  # the command line starts without it
                SuiteError,
                load_suite,
            )

            try:
                load_suite(value)
            except SuiteError as error:
                raise ValueError(str(error)) from error
        return value

    def all_checks(self, method: str = "dpo", voted: bool = True) -> tuple[Check, ...]:
        """Return the checks that a run's release is judged by: `checks` or its method's defaults, and the thresholds.

        Without held-out votes (`voted`), the defaults and thresholds that need none.
        """
        own = None if self.checks is None else tuple(Check(**check.model_dump()) for check in self.checks)
        thresholds = (
            ("min_preference_accuracy", "preference_accuracy", "min"),
            ("max_accuracy_drop", "preference_accuracy", "not_worse_than_stable_by"),
            ("max_drift", "drift", "max"),
            ("max_loss_rise", "loss", "not_worse_than_stable_by"),
            ("min_reward_accuracy", "reward_accuracy", "min"),
            ("max_length_ratio", "length_ratio", "max"),
        )
        further = tuple(
            Check(measure, **{bound: value})
            for name, measure, bound in thresholds
            if (value := getattr(self, name)) is not None
            and not (method == "sft" and name == "min_reward_accuracy")  # no demonstration has a reward
            and (voted or name == "max_length_ratio")
        )
        defaults = default_checks(method) if voted else checks_without_votes(method)
        return with_overrides(defaults if own is None else own, further)


class CanarySettings(Section):
    """How a canary meets traffic."""

    weight: float = Field(0.1, gt=0, le=1, description="share of the traffic of a new canary")
    shadow: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of conversations that the canary answers too, unseen, for raters to compare",
    )
    pair: float = Field(
        0.0, ge=0, le=1, description="share of its turns in Chat that are shown as a blind pair with stable"
    )
    first_token_s: float | None = Field(
        _ALARM.first_token_s,
        gt=0,
        description="longest wait for its first token before stable answers, seconds",
    )
    max_failed: float = Field(
        _ALARM.max_failed,
        ge=0,
        le=1,
        description="share of failed requests above which it is rolled back, if it also fails more often than stable",
    )
    min_requests: int = Field(
        _ALARM.min_requests,
        ge=1,
        description="requests that this share is judged on at least",
    )
    window_s: float = Field(_ALARM.window_s, gt=0, description="how far back it looks, seconds")
    votes_alpha: float | None = Field(
        0.05,
        gt=0,
        lt=1,
        description="chance that votes promote one of a year's canaries (or roll one back) though it is just as good as "
        "stable; none leaves it to an operator",
    )
    min_votes: int = Field(30, ge=1, description="votes that prefer one of the two before they decide")
    raters: Literal["auto", "team", "crowd"] = Field(
        "auto",
        description="how votes are weighed: team takes rounds of one vote of each rater, crowd each rater's first five "
        "votes, auto a team of up to 15 raters",
    )
    max_votes: int = Field(500, ge=1, description="votes after which a canary that is still undecided ends")
    max_days: float = Field(30.0, gt=0, description="days after which a canary that is still undecided ends")
    on_max: Literal["keep_stable", "promote_if_not_worse", "ask"] = Field(
        "keep_stable",
        description="how it ends then: rolled back, promoted where votes prove it not worse, or left to an operator",
    )
    not_worse_by: float = Field(
        0.05, gt=0, lt=0.5, description="win rate below one half that still counts as not worse"
    )

    def alarm_policy(self) -> CanaryPolicy:
        """Return when a canary is rolled back for failing."""
        return CanaryPolicy(
            first_token_s=self.first_token_s,
            max_failed=self.max_failed,
            min_requests=self.min_requests,
            window_s=self.window_s,
        )
