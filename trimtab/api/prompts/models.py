"""Searches for a system prompt."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from align.prompts.candidates import LONGEST
from trimtab.api.base import Request


class WriterRequest(Request):
    """A model that writes candidates."""

    model: str = Field(min_length=1, description="its name: of this platform, or at `url`")
    url: str | None = Field(
        None, pattern="^https?://", description="OpenAI-compatible endpoint, where it is not this platform's"
    )
    key_env: str | None = Field(
        None, description="environment variable of the platform with the key of that endpoint"
    )
    count: int = Field(6, ge=1, le=32, description="how many prompts it is asked for")


class PromptSearchRequest(Request):
    """Asks for a search. The score is by `rules`, else by the win rate or judge of `suite`, else by held-out votes."""

    deployment: str = "assistant"
    candidates: list[str] = Field(
        default_factory=list,
        max_length=200,
        description=f"system prompts of your own, up to {LONGEST} characters each",
    )
    built_in: bool = Field(True, description="false leaves out the prompts that come with the platform")
    write_with: WriterRequest | None = None
    shots: list[int] = Field(
        default_factory=lambda: [0],
        min_length=1,
        max_length=8,
        description="numbers of examples to try, 0 to 16 each",
    )
    rules: dict[str, Any] | None = Field(
        None, description="as of a suite's `win_rate`: {rules: [{rule, value}], prefer: shorter | longer}"
    )
    suite: str | None = Field(None, description="a suite whose `win_rate` or `judge` scores the answers")
    requests: list[str] | None = Field(
        None,
        min_length=4,
        max_length=2000,
        description="requests to choose on and test on, where no snapshot of the deployment is to be used",
    )
    prompts: int = Field(64, ge=2, le=1000, description="requests that candidates are scored on at most")
