"""Pairs of answers of an evaluation that people compare blind, and how they voted on them."""

from __future__ import annotations

from collections.abc import Sequence

from store.accounts import sharing
from store.db.database import Store
from store.db.rows import Row, fetch_all
from store.feedback import comparisons, prompt_owners
from store.feedback.comparisons import Candidate
from store.values import Conversation

SOURCE = "eval"


def ask(
    db: Store,
    evaluation: str,
    item: str,
    reference: str,
    messages: Conversation | Sequence[object],
    candidates: Sequence[Candidate],
    deployment: str,
    votes_wanted: int,
) -> bool:
    """Queue a pair of answers to the prompt of the row `reference`; False where its words are not shared with raters."""
    owners = prompt_owners.of_row(db, reference)
    if not sharing.allow(db, owners, "show"):
        return False
    comparisons.create(
        db,
        messages,
        candidates,
        deployment,
        SOURCE,
        votes_wanted=votes_wanted,
        owners=owners,
        evaluation=evaluation,
        evaluation_item=item,
    )
    return True


def votes_on(db: Store, evaluation: str, release: str) -> list[Row]:
    """Return the blind votes on an evaluation's pairs: item and value, 1 for `release` (a record id), 1/2 for neither."""
    return fetch_all(
        db.read(),
        """
        select evaluation_item as item,
            case when choice in ('tie', 'both_bad') then 0.5 else (candidates.release = $release)::int::double end as value
        from votes
        join comparisons on comparisons.id = votes.comparison_id
        left join candidates on candidates.comparison_id = comparisons.id and side = choice
        where evaluation = $evaluation and revised is not true
        order by votes.id
        """,
        {"evaluation": evaluation, "release": release},
    )


def open_pairs(db: Store, evaluation: str) -> int:
    """Return how many of an evaluation's pairs still want votes."""
    rows = fetch_all(
        db.read(),
        "select count(*) as n from comparisons where evaluation = $evaluation and state = 'open'",
        {"evaluation": evaluation},
    )
    return int(rows[0]["n"])


def both_bad(db: Store, release: str) -> list[Row]:
    """Return every vote on a comparison that shows a release (record id): its prompt and whether both were bad."""
    return fetch_all(
        db.read(),
        """
        select prompt_hash as cluster, choice = 'both_bad' as bad
        from votes
        join comparisons on comparisons.id = votes.comparison_id
        where gold is null and exists (
            from candidates where comparison_id = comparisons.id and candidates.release = $release
        )
        order by votes.id
        """,
        {"release": release},
    )
