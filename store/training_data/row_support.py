"""What derived rows have of the votes that support them: tags and weight, after one of these came or went."""

from __future__ import annotations

from collections.abc import Sequence

from store.db.database import Cursor
from store.db.rows import fetch_all, run


def refresh(cursor: Cursor, ids: Sequence[str], slight_weight: float) -> None:
    """Set the weight of pairs to the mean of what their votes give them; other rows have none and stay.

    A vote that says "slightly" gives `slight_weight`, any other vote or rewrite 1. An imported pair keeps its own weight.
    """
    run(
        cursor,
        """
        update pairs
        set weight = found.weight
        from (
            select subject_id,
                avg(if(evidence.kind = 'vote' and strength = 'slightly', $slight::double, 1.0)) as weight
            from evidence
            join votes on votes.id = evidence.ref
            where list_contains($ids::varchar[], subject_id)
            group by subject_id
        ) as found
        where pairs.id = found.subject_id and import_id is null and pairs.weight <> found.weight
        """,
        {"ids": list(ids), "slight": slight_weight},
    )


def retag(cursor: Cursor, table: str, ids: Sequence[str]) -> None:
    """Give derived rows of `table` the tags of the oldest vote that still supports them."""
    run(
        cursor,
        f"""
        update {table}
        set tags = coalesce(
            (
                select arg_min(votes.tags, votes.id)
                from evidence
                join votes on votes.id = evidence.ref
                where subject_id = {table}.id
            ),
            []
        )
        where import_id is null and list_contains($ids::varchar[], id)
        """,
        {"ids": list(ids)},
    )


def supported_by(cursor: Cursor, vote: str) -> dict[str, list[str]]:
    """Return the ids of the rows that a vote supports, by their tables."""
    rows = fetch_all(
        cursor,
        """
        select distinct subject_id as id
        from evidence
        where ref = $vote and kind in ('vote', 'rewrite')
        """,
        {"vote": vote},
    )
    likes = fetch_all(cursor, "select id from likes where vote_id = $vote", {"vote": vote})
    named = sorted(row["id"] for row in rows)
    return {
        "pairs": [id for id in named if id.startswith("pair-")],
        "demonstrations": [id for id in named if id.startswith("demo-")],
        "likes": sorted(row["id"] for row in likes),
    }
