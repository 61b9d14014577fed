"""Choices between two recorded answers to one question: a comparison that is decided at once, with its vote.

A front end shows its person several answers to one question, as regenerated ones; which they keep is a vote.
"""

from __future__ import annotations

from datetime import datetime

from store.accounts.owners import owner_of
from store.conversations import message_tree
from store.conversations.ratings import answer_of
from store.db import erasure_guard
from store.db.database import Cursor, Store
from store.db.rows import Row, fetch_all, fetch_first, run
from store.errors import Conflict, Invalid
from store.feedback import comparisons
from store.feedback.comparisons import Candidate, Vote
from store.message import is_blank
from store.training_data import evidence
from store.training_data.origin import of_answer

SOURCE = "choice"
"""The source of such a comparison; its prompt comes from people's conversations, so votes on it decide no canary."""


def choose(
    db: Store,
    preferred: str,
    other: str,
    rater: str,
    began: datetime | None = None,
    owner: str | None = None,
    voter: str | None = None,
) -> Vote:
    """Record that `rater` prefers one answer to another to the same question; the last choice between them counts.

    The same choice again changes nothing. `owner` (see `owner_of`) may judge answers of their own alone, None any;
    `voter` is the owner whose vote it is, without it the person `rater`. Raises `NotFound` for an unknown answer, `Conflict`
    for one without text and where the rater was erased since `began` (an aware time), and `Invalid` for answers to
    different questions and for equal ones.
    """
    with db.atomic() as cursor:
        erasure_guard.raise_if_erased(db, rater, began)
        good, bad = (_answer(cursor, id, owner) for id in (preferred, other))
        if (good["conversation_id"], good["prompt_id"]) != (bad["conversation_id"], bad["prompt_id"]):
            raise Invalid("other", other, "another answer to the question that `preferred` answers")
        shown = [_candidate(preferred, good), _candidate(other, bad)]
        if shown[0].answers_as(shown[1]):
            raise Invalid("other", other, "an answer with another text than `preferred`, or other tool calls")
        before = _choice(cursor, preferred, other, rater)
        if before is not None:
            (vote,) = comparisons.votes(db, before["comparison"])
            if before["preferred"] == preferred:
                return vote
            _take_back(cursor, vote)
        nodes = message_tree.nodes_in(cursor, good["conversation_id"])
        made = comparisons.create(
            db,
            message_tree.prompt(nodes, good["prompt_id"]),
            shown,
            deployment=good["deployment"],
            source=SOURCE,
            asked_by=rater,
            votes_wanted=1,
            began=began,
            owners=_owners(cursor, [preferred, other]),
        )
        side = "a" if made.a.completion_id == preferred else "b"
        voter = owner_of(rater, None) if voter is None else voter
        return comparisons.vote(db, made.id, side, rater, began=began, owner=voter)


def _answer(cursor: Cursor, id: str, owner: str | None) -> Row:
    row = answer_of(cursor, id, owner)
    if is_blank(_candidate(id, row).message) or row["prompt_id"] is None:
        raise Conflict(f"completion {id} has no text to compare")
    return row


def _candidate(id: str, row: Row) -> Candidate:
    ends = of_answer(row["release"], row["lane"], row["finish_reason"], row["error"])
    return Candidate(
        content=row["content"] or "",
        release=row["release"],
        lane=row["lane"],
        model=row["model"],
        completion_id=id,
        finish_reason=ends.finish_reason,
        carried=row["carried"] or "",
    )


def _choice(cursor: Cursor, one: str, another: str, rater: str) -> Row | None:
    """Return the choice that a rater made between two answers before: its comparison, and the answer they preferred."""
    return fetch_first(
        cursor,
        """
        select comparisons.id as comparison, if(choice = 'a', a.completion_id, b.completion_id) as preferred
        from candidates as a
        join candidates as b on b.comparison_id = a.comparison_id and b.side = 'b'
        join comparisons on comparisons.id = a.comparison_id
        join votes on votes.comparison_id = comparisons.id
        where a.side = 'a' and a.completion_id in ($one, $another) and b.completion_id in ($one, $another)
            and source = $source and rater = $rater
        """,
        {"one": one, "another": another, "rater": rater, "source": SOURCE},
    )


def _take_back(cursor: Cursor, vote: Vote) -> None:
    """Delete a choice with what it alone gave rise to, within a transaction."""
    evidence.withdraw(cursor, "pairs", "vote", vote.id)
    for table, column in (("votes", "comparison_id"), ("candidates", "comparison_id"), ("comparisons", "id")):
        run(cursor, f"delete from {table} where {column} = $id", {"id": vote.comparison})


def _owners(cursor: Cursor, completions: list[str]) -> list[str]:
    """Return whose words the prompts of completions hold."""
    rows = fetch_all(
        cursor,
        "select distinct owner from prompt_owners where list_contains($ids, completion_id)",
        {"ids": completions},
    )
    return [row["owner"] for row in rows]
