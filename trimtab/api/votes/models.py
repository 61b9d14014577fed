"""Votes: a rater's verdict, what follows from it, and their own history."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from store.feedback.skips import MAX_REASON
from store.feedback.vote_details import MAX_COMMENT, Details
from trimtab.api.base import Request, View

Choice = Literal["a", "b", "c", "d", "tie", "both_bad"]
Side = Literal["a", "b", "c", "d"]
Strength = Literal["slightly", "clearly"]


class VoteRequest(Request):
    """A rater's verdict; `better` is a response that the rater wrote."""

    choice: Choice | None = Field(
        None, description="the best answer, better than all others; may be left out beside `ranking`"
    )
    ranking: list[list[Side]] | None = Field(
        None,
        max_length=4,
        description="all answers in order, the best first; those in one list are tied: "
        '`[["c"], ["a", "b"]]`. It makes a pair of each two that are not tied',
    )
    better: str | None = Field(default=None, max_length=200_000)
    tags: list[str] = Field(default_factory=list, max_length=20)
    seconds: float | None = Field(default=None, ge=0, description="how long the rater took")
    strength: Strength | None = Field(
        None,
        description="how much better the chosen answer is; the pair of a vote that says slightly weighs less in training "
        "(`rank.slight_weight`)",
    )
    reasons: dict[Side, list[str]] = Field(
        default_factory=dict, description="why, by answer: those of the comparison's `reasons` or any others"
    )
    comment: str | None = Field(None, max_length=MAX_COMMENT)
    unsafe: list[Side] = Field(
        default_factory=list,
        max_length=10,
        description="answers that are unsafe: they are disliked, and never preferred in training, whatever the choice",
    )

    def details(self) -> Details:
        """Return what it says beside its choice."""
        reasons = {str(side): texts for side, texts in self.reasons.items()}
        return Details(self.strength, reasons, self.comment, tuple(self.unsafe))


class VoteView(View):
    """A recorded vote, and what it revealed and produced."""

    id: str
    comparison: str
    choice: Choice
    revealed: dict[str, str | None]
    pairs: list[str] = Field(default_factory=list)
    demonstration: str | None = None
    places: list[int] | None = Field(
        None, description="places of the answers in turn, 1 the best, where more than two were compared"
    )
    revised: bool = Field(
        False,
        description="whether it takes the place of a vote that its rater took back; it trains, and decides no canary, no "
        "evaluation and no gold question, since the releases had been revealed",
    )


class SkipRequest(Request):
    """Why a rater leaves a comparison undecided."""

    reason: str = Field(min_length=1, max_length=MAX_REASON)
    comment: str | None = Field(None, max_length=MAX_COMMENT)


class SkipView(View):
    """A comparison that a rater left undecided."""

    comparison: str
    rater: str
    reason: str
    comment: str | None = None
    created_at: datetime


class UndoneVoteView(View):
    """A vote that was taken back; `releases` had learned from it."""

    id: str
    comparison: str
    rater: str
    choice: str
    cast_at: datetime
    undone_at: datetime
    releases: list[str]


class CastVoteView(View):
    """A vote that was cast: what was asked last, the verdict and its details."""

    id: str
    comparison: str
    rater: str
    choice: Choice
    asked: str
    better: str | None = None
    tags: list[str] = Field(default_factory=list)
    strength: Strength | None = None
    reasons: dict[str, list[str]] = Field(default_factory=dict)
    comment: str | None = None
    unsafe: list[str] = Field(default_factory=list)
    revised: bool = False
    seconds: float | None = None
    deployment: str | None = None
    created_at: datetime


class RaterSummaryView(View):
    """What the caller has done as a rater; days are those of UTC."""

    votes: int
    today: int
    streak: int = Field(description="days in a row with a vote, up to today or yesterday")
    skipped: int
    undone: int
    gold_right: int | None = Field(
        description="of `gold_total` gold questions; null below five of them, so that none is given away"
    )
    gold_total: int | None
    agreement: float | None = Field(
        description="share of votes that equal another rater's on the same comparison"
    )
    compared: int
