"""The records of comparisons: candidates, the comparison that a rater sees blind, and a vote on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from store import values
from store.db.record import Record
from store.message import identity
from store.values import Conversation, Message


@dataclass(frozen=True, slots=True)
class Candidate(Record):
    """One response of a comparison, who gave it, and why it ended (see `store.training_data.origin`).

    `release` is the release's record id; `carried` is what it has beside text (see `store.carried`).
    """

    content: str
    release: str | None = None
    lane: str | None = None
    model: str | None = None
    completion_id: str | None = None
    sampling: dict[str, Any] | None = None
    finish_reason: str | None = None
    carried: str = ""

    @property
    def message(self) -> Message:
        """The response as a message."""
        return Message("assistant", self.content, self.carried)

    def answers_as(self, other: Candidate) -> bool:
        """Return whether another gave the same answer: the same text and calls, whatever was thought before."""
        return identity(self.message) == identity(other.message)


@dataclass(frozen=True, slots=True)
class Comparison(Record):
    """One conversation so far and two candidates. `state` is open, decided or withdrawn.

    Which candidate is `a` was drawn at random when it was made. `gold` is the known right choice of a gold
    question, else None. `owners` are those whose words the conversation holds. `blind` is what a rater may see.
    """

    id: str
    messages: Conversation
    a: Candidate
    b: Candidate
    deployment: str | None
    source: str
    asked_by: str | None
    state: str
    votes_wanted: int
    votes_given: int
    created_at: datetime
    decided_at: datetime | None = None
    gold: str | None = None
    owners: tuple[str, ...] = ()

    def blind(self) -> dict[str, Any]:
        """Return what a rater may see: id, messages, the two texts, and as messages those that carry more than text."""
        sides = {"a": self.a, "b": self.b}
        return {
            "id": self.id,
            "messages": values.to_json(self.messages),
            **{side: candidate.content for side, candidate in sides.items()},
            **{f"{side}_message": c.message.to_json() if c.carried else None for side, c in sides.items()},
        }


@dataclass(frozen=True, slots=True)
class Vote(Record):
    """A rater's choice between two answers.

    `pairs` and `demonstration` are the ids of what was derived from it in the same commit. `deployment` is the comparison's
    and `releases` the record ids of the releases that gave `a` and `b`; `vote` returns them, `votes` does not.
    `strength` to `unsafe`: see `store.feedback.vote_details`. `revised` says that its rater took another vote on the
    comparison back before, and so had seen whose the answers are.
    """

    id: str
    comparison: str
    rater: str
    choice: str
    better: str | None
    tags: tuple[str, ...]
    created_at: datetime
    seconds: float | None = None
    pairs: tuple[str, ...] = ()
    demonstration: str | None = None
    strength: str | None = None
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    comment: str | None = None
    unsafe: tuple[str, ...] = ()
    revised: bool = False
    deployment: str | None = field(default=None, compare=False)
    releases: dict[str, str | None] = field(default_factory=dict, compare=False)
