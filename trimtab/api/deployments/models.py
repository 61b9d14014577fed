"""Deployments, canaries and the leaderboard."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from trimtab.api.base import Request, View


class CanaryRequest(Request):
    """Gives a release a share of the deployment's traffic."""

    release: str
    weight: float = Field(ge=0, le=1, description="share of the traffic, 0 to 1; 0 with shadow mode alone")
    reason: str | None = Field(
        default=None,
        max_length=2000,
        description="why, for a release that its gate rejected; goes to the audit log",
    )


class PromoteRequest(Request):
    """Makes a release stable; without `release`, the canary."""

    release: str | None = None
    reason: str | None = Field(
        default=None,
        max_length=2000,
        description="why, for a release that its gate rejected; goes to the audit log",
    )


class CanaryVotes(View):
    """What raters say of a canary beside the stable release, since it began; docs/evaluation.md has the test.

    `evidence_for` and `evidence_against` are the wealths of bets, e-values: `needed` promotes, `needed_against` rolls back.
    """

    wins: int
    losses: int
    ties: int
    evidence_for: float
    evidence_against: float
    needed: float | None = Field(description="evidence that promotes; none where an operator decides")
    min_votes: int
    needed_against: float | None = Field(
        default=None, description="evidence that rolls back; none where an operator decides"
    )
    weighed: Literal["team", "crowd"] = Field(default="team", description="how votes make blocks")
    blocks: int = Field(default=0, description="rounds of a team, raters of a crowd")
    win_rate: float | None = Field(default=None, description="the canary's mean score by block; a tie is 0.5")
    low: float = Field(default=0.0, description="lower end of its 95% interval, valid at any time")
    high: float = Field(default=1.0, description="upper end of that interval")
    others: int = Field(
        default=0,
        description="votes between the two that do not decide: typed prompts, named releases, repeats",
    )
    canary_of_the_year: int = Field(default=1, description="which canary of the last year it is, from 1")
    max_votes: int | None = None
    ends_at: datetime | None = None
    ended: Literal["max_votes", "max_days"] | None = Field(
        default=None, description="the maximum that it has reached undecided; an operator decides then"
    )
    verdict: Literal["promote", "rollback"] | None = Field(
        default=None, description="what the votes alone say; carried out unless an operator decides"
    )
    raters_left_out: int = Field(default=0, description="raters whose votes do not count, by rule")
    undecided_without: list[str] = Field(
        default_factory=list, description="raters without whom there would be no verdict; for operators alone"
    )


class DeploymentView(View):
    """One deployment and where its traffic goes."""

    name: str
    base: str
    stable: str
    canary: str | None
    weight: float
    previous: str | None = Field(default=None, description="where a rollback goes")
    updated_at: datetime | None = None
    votes: CanaryVotes | None = Field(
        default=None, description="canary against stable; none without a canary"
    )


class LeaderboardRowView(View):
    """A release ranked from votes; `low` and `high` bound the score at 95%."""

    release: str
    wins: int
    losses: int
    ties: int
    votes: int
    score: float
    low: float
    high: float
    group: int = Field(
        default=1,
        description="releases that a chain of comparisons connects; scores of other groups can't be compared",
    )


class EvidencePointView(View):
    """What a canary's votes had proved at a time."""

    at: datetime
    votes: int = Field(description="votes that may decide, so far")
    blocks: int
    win_rate: float | None = Field(description="the canary's mean score; null before the first block")
    low: float = Field(description="lower end of its interval, valid whenever one looks")
    high: float
    evidence_for: float
    evidence_against: float
