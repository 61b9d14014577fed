"""What a job that distils a prompt is asked, kept as its parameters."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from align.pair_making.sampling import MAX_TOKENS, Sampling
from trimtab.jobs.params import Params, PromptSource

KIND = "distil"


class RunWanted(Params):
    """The run that learns the answers; the fields of a run's request."""

    qlora: bool = False
    recipe: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    rollout: str = "canary"
    gate: str = "enforce"
    start_from: str = "auto"


class DistilPlan(Params):
    """Everything that decides what a job distils; `release` is the id of the release that answers.

    `prompt_hash` names its system prompt in the source of the demonstrations; the text may hold words of people.
    """

    deployment: str
    release: str
    ref: str
    prompt_hash: str
    prompts: PromptSource
    run: RunWanted
    n: int = 1
    temperature: float | None = None
    max_tokens: int = MAX_TOKENS
    seed: int = 0
    heldout_fraction: float = 0.1

    @property
    def sampling(self) -> Sampling:
        """How answers are sampled."""
        return Sampling(self.max_tokens, self.temperature)
