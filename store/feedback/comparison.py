"""The records of comparisons: candidates, the comparison that a rater sees blind, and a vote on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from store import values
from store.db.record import Record
from store.feedback.ranking import SIDES
from store.message import identity
from store.values import Conversation, Message


@dataclass(frozen=True, slots=True)
class Candidate(Record):
    """One response of a comparison, who gave it, and why it ended (see `store.training_data.origin`).

    `release` is the release's record id; `carried` is what it has beside text (see `store.carried`). `turns` are all its
    messages where it goes on for several turns; `content` then is the text of the last one.
    """

    content: str
    release: str | None = None
    lane: str | None = None
    model: str | None = None
    completion_id: str | None = None
    sampling: dict[str, Any] | None = None
    finish_reason: str | None = None
    carried: str = ""
    turns: Conversation = ()

    @property
    def message(self) -> Message:
        """The response as a message; of several turns the last one."""
        return Message("assistant", self.content, self.carried)

    @property
    def messages(self) -> Conversation:
        """All that it says."""
        return self.turns or (self.message,)

    def answers_as(self, other: Candidate) -> bool:
        """Return whether another gave the same answer: the same text and calls, whatever was thought before."""
        return [identity(m) for m in self.messages] == [identity(m) for m in other.messages]


def branch(messages: Conversation, release: str | None = None) -> Candidate:
    """Make a candidate of a continuation, whose messages begin and end with the assistant."""
    last = messages[-1]
    turns = messages if len(messages) > 1 else ()
    return Candidate(last.content, release=release, carried=last.carried, turns=turns)


@dataclass(frozen=True, slots=True)
class Comparison(Record):
    """One conversation so far and two candidates, or up to four. `state` is open, decided or withdrawn.

    Which candidate is `a` was drawn at random when it was made; `more` are `c` and `d`. `gold` is the known right choice
    of a gold question, else None. `owners` are those whose words the conversation holds. `blind` is what a rater may see.
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
    more: tuple[Candidate, ...] = ()

    @property
    def sides(self) -> dict[str, Candidate]:
        """The candidates by side."""
        return dict(zip(SIDES, (self.a, self.b, *self.more), strict=False))

    def blind(self) -> dict[str, Any]:
        """Return what a rater may see: id, messages, the texts, and as messages those that carry more than text.

        `branches` are the messages by side where an answer goes on for several turns, else None.
        """
        sides = self.sides
        long = any(candidate.turns for candidate in sides.values())
        return {
            "id": self.id,
            "messages": values.to_json(self.messages),
            **{side: candidate.content for side, candidate in sides.items()},
            **{f"{side}_message": c.message.to_json() if c.carried else None for side, c in sides.items()},
            "branches": {side: values.to_json(c.messages) for side, c in sides.items()} if long else None,
        }


@dataclass(frozen=True, slots=True)
class Vote(Record):
    """A rater's choice between two answers.

    `pairs` and `demonstration` are the ids of what was derived from it in the same commit. `deployment` is the comparison's
    and `releases` the record ids of the releases that gave `a` and `b`; `vote` returns them, `votes` does not.
    `places` are those of the sides in turn (1 is best, the same for a tie) where more than two were compared.
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
    places: tuple[int, ...] | None = None
    deployment: str | None = field(default=None, compare=False)
    releases: dict[str, str | None] = field(default_factory=dict, compare=False)
