"""A rater's own votes, and what they come to: per day, in a row of days, and how often gold questions were right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import check_limit, fetch_all, fetch_one, scalar, stamp
from store.feedback.vote_details import read

MIN_GOLD = 5
"""Answered gold questions below which a rater is shown no share: one more would give away which one was gold."""


@dataclass(frozen=True, slots=True)
class RaterSummary(Record):
    """What a rater has done. Days are those of UTC.

    `streak` counts days in a row with a vote, up to today or yesterday. `gold_right` of `gold_total` gold questions, None
    below `MIN_GOLD` of them; a vote in the place of one that was taken back is not counted there. `agreement` is the share
    of votes that equal that of another rater on the same comparison, of `compared` such pairs of votes.
    """

    votes: int
    today: int
    streak: int
    skipped: int
    undone: int
    gold_right: int | None
    gold_total: int | None
    agreement: float | None
    compared: int


def summary(db: Store, rater: str) -> RaterSummary:
    """Return what a rater has done."""
    cursor, today = db.read(), utcnow().date()
    counted = fetch_one(
        cursor,
        """
        select count(*) as votes, count(*) filter (votes.created_at::date = $today) as today,
            count(*) filter (gold is not null and revised is not true) as gold_total,
            count(*) filter (gold = choice and revised is not true) as gold_right
        from votes
        join comparisons on comparisons.id = comparison_id
        where rater = $rater
        """,
        {"rater": rater, "today": today},
    )
    days = fetch_all(
        cursor,
        "select distinct created_at::date as day from votes where rater = $rater order by day desc",
        {"rater": rater},
    )
    shared = fetch_one(
        cursor,
        """
        select count(*) as compared, avg((mine.choice = theirs.choice)::int) as agreement
        from votes as mine
        join votes as theirs using (comparison_id)
        join comparisons on comparisons.id = comparison_id
        where mine.rater = $rater and theirs.rater <> $rater and gold is null
        """,
        {"rater": rater},
    )
    known = counted["gold_total"] >= MIN_GOLD
    return RaterSummary(
        votes=counted["votes"],
        today=counted["today"],
        streak=streak([row["day"] for row in days], today),
        skipped=scalar(cursor, "select count(*) from skips where rater = $rater", {"rater": rater}),
        undone=scalar(cursor, "select count(*) from undone_votes where rater = $rater", {"rater": rater}),
        gold_right=counted["gold_right"] if known else None,
        gold_total=counted["gold_total"] if known else None,
        agreement=shared["agreement"],
        compared=shared["compared"],
    )


def streak(days: Sequence[date], today: date) -> int:
    """Return how many days in a row are among `days` (newest first), counted back from today, or from yesterday."""
    expected = today if days and days[0] == today else today - timedelta(days=1)
    count = 0
    for day in days:
        if day != expected:
            break
        count, expected = count + 1, expected - timedelta(days=1)
    return count


def list_votes(
    db: Store, rater: str | None = None, limit: int = 50, before: str | None = None, unsafe: bool = False
) -> list[dict[str, Any]]:
    """Return votes, newest first, of one rater or of all: what was asked, the verdict and its details.

    `before` is the id of a vote: older ones follow. `unsafe` leaves only those that call an answer unsafe. Which were gold
    questions is not said.
    """
    # asked: the last message of a person, by its text
    rows = fetch_all(
        db.read(),
        """
        select votes.id, comparison_id as comparison, rater, choice, better, tags, strength, reasons, comment, unsafe,
            coalesce(revised, false) as revised, seconds, votes.created_at, deployment,
            coalesce([turn.content for turn in messages if turn.role = 'user'][-1], '') as asked
        from votes
        join comparisons on comparisons.id = comparison_id
        where ($rater is null or rater = $rater) and ($before is null or votes.id < $before)
            and (not $unsafe or len(unsafe) > 0)
        order by votes.id desc
        limit $limit
        """,
        {"rater": rater, "before": before, "unsafe": unsafe, "limit": check_limit(limit)},
    )
    return [{**row, **read(row), "created_at": stamp(row["created_at"])} for row in rows]
