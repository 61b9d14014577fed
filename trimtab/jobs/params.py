"""The parameters of a job, as the store keeps them, and what those of several kinds share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Base of the parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PromptSource(Params):
    """Where the prompts are from: given with the request, whose hash is here, or the newest of traffic."""

    given: str | None = None
    traffic: int | None = None
