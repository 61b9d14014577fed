"""Which comparison a rater is shown next, and how often each prompt has been compared."""

from __future__ import annotations

from collections.abc import Sequence

from store.accounts import sharing
from store.db.database import Store
from store.db.rows import fetch_all, fetch_first
from store.feedback import comparisons, leases
from store.values import Conversation

CLUSTER = "lower([turn.content for turn in {0} if turn.role = 'user'][1])"
"""`cluster_of` the messages in a column, as SQL."""


def compared_prompts(db: Store) -> dict[str, int]:
    """Return how many comparisons there are of each prompt, by its cluster (see `cluster_of`)."""
    rows = fetch_all(
        db.read(),
        f"""
        select {CLUSTER.format("messages")} as cluster, count(*) as n
        from comparisons
        where gold is null
        group by cluster
        having cluster is not null
        """,
    )
    return {row["cluster"]: int(row["n"]) for row in rows}


def cluster_of(messages: Conversation) -> str:
    """Return what prompts of one cluster have in common: the first user message, in lower case."""
    return next((message.content for message in messages if message.role == "user"), "").lower()


def next_unvoted(db: Store, rater: str, skipped: Sequence[str] = ()) -> comparisons.Comparison | None:
    """Return the oldest open comparison that `rater` has neither voted on nor skipped, or None; theirs for two minutes.

    None of `skipped`; the one that the rater held is given up, even where nothing else waits.

    What as many others hold as there are votes wanted is left to them (store.feedback.leases); what somebody said who
    does not share it with raters is shown to nobody.
    """
    held_by = leases.of(db)
    with held_by.lock:
        others = held_by.held(rater)
        row = fetch_first(
            db.read(),
            f"""
            select id
            from comparisons
            where state = 'open'
                and {sharing.all_agree("owners", "show", db.share)}
                and not list_contains($skipped::varchar[], id)
                and not exists (from votes where comparison_id = comparisons.id and rater = $rater)
                and not exists (from skips where comparison_id = comparisons.id and rater = $rater)
                and votes_wanted - votes_given > coalesce(($counts::integer[])[list_position($held::varchar[], id)], 0)
            order by seq
            limit 1
            """,
            {
                "rater": rater,
                "skipped": list(skipped),
                "held": list(others),
                "counts": list(others.values()),
            },
        )
        if row is None:
            for id in skipped:
                held_by.release(id, rater)
            return None
        held_by.take(row["id"], rater)
    return comparisons.get(db, row["id"])
