"""What a job that makes pairs is asked: typed, checked, and kept as its parameters."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from align.evaluation.suite_file import Judge
from align.pair_making.by_judge import requests_of
from align.pair_making.choice import Against, Cut
from align.pair_making.preference import Preference
from align.pair_making.sampling import MAX_TOKENS, Sampling
from trimtab.jobs.params import Params, PromptSource

KIND = "pairs.make"


class ByRules(Params):
    """Decided by rules."""

    kind: Literal["rules"] = "rules"
    preference: Preference

    @property
    def hash(self) -> str:
        """What the source of the pairs names it by."""
        return self.preference.hash


class ByJudge(Params):
    """Decided by a model at an OpenAI-compatible URL; `uncalibrated` takes one that was not shown to agree with people."""

    kind: Literal["judge"] = "judge"
    judge: Judge
    uncalibrated: bool = False

    @property
    def hash(self) -> str:
        """What the source of the pairs names it by: model and prompt, wherever it is served."""
        text = json.dumps([self.judge.model, self.judge.read_prompt()])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class ByRelease(Params):
    """The answer of another release is the better one."""

    kind: Literal["release"] = "release"
    release: str
    ref: str

    @property
    def hash(self) -> str:
        """What the source of the pairs names it by: the release's id."""
        return self.release


class MakePlan(Params):
    """Everything that decides what a job makes; `release` is the id of the release whose answers are sampled."""

    deployment: str
    release: str
    ref: str
    prompts: PromptSource
    by: Annotated[ByRules | ByJudge | ByRelease, Field(discriminator="kind")]
    n: int = Field(4, ge=1, le=32)
    against: Against = "worst"
    cut: Cut = "drop"
    temperature: float | None = None
    max_tokens: int = MAX_TOKENS
    weight: float = 1.0
    seed: int = 0
    heldout_fraction: float = 0.1

    @property
    def samples(self) -> int:
        """How many answers of the release each prompt gets: one where another release's answer is the better one."""
        return 1 if isinstance(self.by, ByRelease) else self.n

    @property
    def sampling(self) -> Sampling:
        """How answers are sampled."""
        return Sampling(self.max_tokens, self.temperature)

    @property
    def requests_per_prompt(self) -> int:
        """How many answers are generated for a prompt."""
        return self.samples + isinstance(self.by, ByRelease)

    @property
    def judgements_per_prompt(self) -> int:
        """How many verdicts a judge gives on a prompt."""
        return requests_of(self.n) if isinstance(self.by, ByJudge) else 0

    def to_json(self) -> dict[str, Any]:
        """Return it as the parameters of a job."""
        return self.model_dump()
