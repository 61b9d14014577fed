"""Comparisons and votes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from trimtab.api.base import Request, View
from trimtab.api.conversations.models import MessageBody
from trimtab.config.data_sections import Shown


class ComparisonRequest(Request):
    """Asks for two to four candidate responses to one conversation."""

    messages: list[MessageBody] = Field(min_length=1, max_length=200)
    deployment: str | None = None
    releases: list[str] | None = Field(
        default=None, min_length=2, max_length=4, description="which releases answer, one response each"
    )
    answers: int | None = Field(
        None,
        ge=2,
        le=4,
        description="how many responses; by default as many as `releases`, else `rank.answers`",
    )
    sampling: dict[str, Any] = Field(default_factory=dict)
    tools: list[dict[str, Any]] | None = Field(
        None, description="tools that both may call, as in OpenAI's chat completions"
    )
    drawn: bool | None = Field(
        None,
        description="whether the prompt came from `/api/prompts/draw`; false says that the caller brought it, so that "
        "an erasure of somebody else who said it leaves the votes on it",
    )


class BranchesRequest(Request):
    """Continuations of one conversation over several turns, to be judged at the end: as messages, or as recorded answers."""

    messages: list[MessageBody] | None = Field(
        None, min_length=1, max_length=200, description="what all of `branches` go on from"
    )
    branches: list[list[MessageBody]] | None = Field(
        None,
        min_length=2,
        max_length=4,
        description="two to four continuations, each of which begins and ends with the assistant",
    )
    completions: list[str] | None = Field(
        None,
        min_length=2,
        max_length=4,
        description="in the place of both: recorded answers that end branches of one conversation, from where these part",
    )
    releases: list[str | None] | None = Field(
        None,
        min_length=2,
        max_length=4,
        description="which release gave each of `branches`, where that is known",
    )
    deployment: str | None = None


class GoldRequest(Request):
    """A question whose answer is known, to measure raters by; it looks like any other comparison."""

    messages: list[MessageBody] = Field(min_length=1, max_length=200)
    good: str = Field(min_length=1, max_length=200_000)
    bad: str = Field(min_length=1, max_length=200_000)
    deployment: str | None = None
    votes_wanted: int = Field(default=10, ge=1, le=1000, description="raters that it is shown to")


class ComparisonView(View):
    """A comparison as a rater sees it: never says which release wrote which response."""

    id: str
    messages: list[dict[str, Any]]
    a: str
    b: str
    a_message: dict[str, Any] | None = Field(
        None, description="the response as a message, where it has tool calls or reasoning"
    )
    b_message: dict[str, Any] | None = None
    c: str | None = Field(None, description="the third response, where three or four are compared")
    d: str | None = None
    c_message: dict[str, Any] | None = None
    d_message: dict[str, Any] | None = None
    branches: dict[str, list[dict[str, Any]]] | None = Field(
        None,
        description="the messages of each response, where they go on for several turns; the texts are the last ones",
    )
    show: Shown = Field(
        "answers", description="`rank.show`: whether final answers are compared, or thinking as well"
    )
    reasons: list[str] = Field(
        default_factory=list, description="reasons that may be ticked for each answer: `rank.reasons`"
    )
    skip_reasons: list[str] = Field(default_factory=list, description="`rank.skip_reasons`")
    guidelines: str = Field("", description="what raters should know, as Markdown: `rank.guidelines`")
    state: str = "open"
    source: str = "rank"
    created_at: datetime | None = None
