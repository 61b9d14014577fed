"""Deployments, canaries and the leaderboard."""

from __future__ import annotations

from datetime import datetime

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
    """What raters say of a canary beside the stable release, since it began.

    `evidence_for` and `evidence_against` are e-values: 20 decides at `votes_alpha = 0.05`.
    """

    wins: int
    losses: int
    ties: int
    evidence_for: float
    evidence_against: float
    needed: float | None = Field(description="evidence that decides; none where an operator decides")
    min_votes: int


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
