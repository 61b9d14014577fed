"""Comparisons that raters left undecided, with their reasons: what is wrong with prompts and answers shows here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from store.db import erasure_guard, redaction, validation
from store.db.database import Store, utcnow
from store.db.rows import check_limit, fetch_all, fetch_first, run, stamp
from store.errors import Conflict
from store.feedback import comparisons, leases
from store.feedback.vote_details import MAX_COMMENT

MAX_REASON = 200


def skip(
    db: Store,
    comparison: str,
    rater: str,
    reason: str,
    comment: str | None = None,
    began: datetime | None = None,
) -> None:
    """Record that a rater leaves a comparison undecided; it does not come back to them, and others get it at once.

    The last reason counts. Raises `NotFound`, `Conflict` where they have voted on it or were erased since `began` (an aware
    time), and `Invalid` for a blank reason.
    """
    reason = redaction.text(db, validation.text("reason", reason, MAX_REASON)).strip()
    if comment is not None and comment.strip():
        comment = redaction.text(db, validation.text("comment", comment, MAX_COMMENT))
    else:
        comment = None
    comparisons.get(db, comparison)
    with db.atomic() as cursor:
        erasure_guard.raise_if_erased(db, rater, began)
        given = {"id": comparison, "rater": rater}
        if fetch_first(cursor, "select id from votes where comparison_id = $id and rater = $rater", given):
            raise Conflict(f"{rater} has voted on comparison {comparison} already")
        run(
            cursor,
            """
            insert into skips (comparison_id, rater, reason, comment, created_at)
            values ($id, $rater, $reason, $comment, $now)
            on conflict do update set reason = excluded.reason, comment = excluded.comment
            """,
            {**given, "reason": reason, "comment": comment, "now": utcnow()},
        )
    leases.of(db).release(comparison, rater)


def list_recent(db: Store, limit: int = 100) -> list[dict[str, Any]]:
    """Return the newest skips: comparison, rater, reason, comment, created_at."""
    rows = fetch_all(
        db.read(),
        """
        select comparison_id as comparison, rater, reason, comment, created_at
        from skips
        order by created_at desc, comparison_id desc
        limit $limit
        """,
        {"limit": check_limit(limit)},
    )
    return [{**row, "created_at": stamp(row["created_at"])} for row in rows]
