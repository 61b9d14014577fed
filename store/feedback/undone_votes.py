"""Votes that their raters took back: what was made of one goes, and that it was cast stays on the record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.accounts import audit
from store.db import bulk, erasure_guard
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import Row, check_limit, fetch_all, fetch_first, run, stamp
from store.errors import NotFound
from store.feedback import leases
from store.rollout import lineage
from store.training_data import row_support

ENDS_WITH_ITS_VOTE = "choice"
"""Source of comparisons that exist by their vote alone (`store.feedback.choices`): nobody else is asked."""


@dataclass(frozen=True, slots=True)
class UndoneVote(Record):
    """A vote that was taken back: whose and when, and the releases (public names) that had learned from it."""

    id: str
    comparison: str
    rater: str
    choice: str
    cast_at: datetime
    undone_at: datetime
    releases: tuple[str, ...] = ()
    deployment: str | None = None


def undo(db: Store, comparison: str, rater: str, began: datetime | None = None) -> UndoneVote:
    """Take back a rater's vote on a comparison, which waits for votes again and is theirs for two minutes.

    Pairs and demonstrations that nothing else supports go, dislikes of the vote too; other rows get the tags and weight of
    the votes that are left. Snapshots and releases that have learned from it stay. Raises `NotFound` where the rater has no
    vote on it, `Conflict` where they were erased since `began` (an aware time).
    """
    with db.atomic() as cursor:
        erasure_guard.raise_if_erased(db, rater, began)
        vote = fetch_first(
            cursor,
            """
            select votes.id, choice, votes.created_at, source, deployment, votes_wanted, votes_given, state
            from votes
            join comparisons on comparisons.id = comparison_id
            where comparison_id = $id and rater = $rater
            """,
            {"id": comparison, "rater": rater},
        )
        if vote is None:
            raise NotFound("vote", f"of {rater} on comparison {comparison}")
        rows = row_support.supported_by(cursor, vote["id"])
        learned = lineage.of_items(db, [id for ids in rows.values() for id in ids])
        _delete(cursor, vote["id"], rows)
        row_support.refresh(cursor, rows["pairs"], db.slight_weight)
        for table in ("pairs", "demonstrations"):
            row_support.retag(cursor, table, rows[table])
        reopened = vote["source"] != ENDS_WITH_ITS_VOTE
        _reopen(cursor, comparison, vote["votes_given"] - 1, "open" if reopened else "withdrawn")
        undone: Row = {
            "id": vote["id"],
            "comparison_id": comparison,
            "rater": rater,
            "choice": vote["choice"],
            "releases": [release["id"] for release in learned],
            "cast_at": vote["created_at"],
            "undone_at": utcnow(),
        }
        bulk.insert_together(cursor, [("undone_votes", undone)])
        refs = tuple(str(release["ref"]) for release in learned)
        detail = {"comparison": comparison, "choice": vote["choice"], "releases": list(refs)}
        audit.record(db, rater, "vote.undo", vote["id"], detail)
    if reopened:
        leases.of(db).take(comparison, rater)
    return UndoneVote(
        id=vote["id"],
        comparison=comparison,
        rater=rater,
        choice=vote["choice"],
        cast_at=stamp(vote["created_at"]),
        undone_at=stamp(undone["undone_at"]),
        releases=refs,
        deployment=vote["deployment"],
    )


def has(cursor: Cursor, comparison: str, rater: str) -> bool:
    """Return whether a rater took back a vote on a comparison before."""
    rows = fetch_all(cursor, "select rater from undone_votes where comparison_id = $id", {"id": comparison})
    return any(row["rater"] == rater for row in rows)


def list_recent(db: Store, rater: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Return the newest votes that were taken back, by one rater or by all; `releases` are record ids."""
    rows = fetch_all(
        db.read(),
        """
        select id, comparison_id as comparison, rater, choice, releases, cast_at, undone_at
        from undone_votes
        where $rater is null or rater = $rater
        order by undone_at desc, id desc
        limit $limit
        """,
        {"rater": rater, "limit": check_limit(limit)},
    )
    return [{**row, "cast_at": stamp(row["cast_at"]), "undone_at": stamp(row["undone_at"])} for row in rows]


def _delete(cursor: Cursor, vote: str, rows: dict[str, list[str]]) -> None:
    """Delete a vote and the rows that it alone supports."""
    run(cursor, "delete from evidence where ref = $vote and kind in ('vote', 'rewrite')", {"vote": vote})
    run(cursor, "delete from likes where vote_id = $vote", {"vote": vote})
    run(cursor, "delete from votes where id = $vote", {"vote": vote})
    for table in ("pairs", "demonstrations"):
        run(
            cursor,
            f"""
            delete from {table}
            where list_contains($ids::varchar[], id) and import_id is null
                and not exists (from evidence where subject_id = {table}.id)
            """,
            {"ids": rows[table]},
        )


def _reopen(cursor: Cursor, comparison: str, given: int, state: str) -> None:
    run(
        cursor,
        "update comparisons set votes_given = $given, state = $state, decided_at = null where id = $id",
        {"id": comparison, "given": given, "state": state},
    )
