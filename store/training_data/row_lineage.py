"""One row of training data: where it comes from, and what learned from it."""

from __future__ import annotations

from typing import Any

from store.db.database import Store
from store.db.rows import Row, fetch_all, loads, stamp
from store.rollout import lineage
from store.training_data import row_search
from store.training_data.curation import NOUNS


def of_row(db: Store, noun: str, id: str) -> dict[str, Any]:
    """Return a row with its lineage. Raises `NotFound`, and `Invalid` for the noun.

    Keys: those of `row_search.FoundRow`, and `evidence` (votes, rewrites, likes and makings behind it: kind, ref, person,
    at, comparison, choice, release), `imported` (source, by, at; null where it was not), `snapshots` (id, split, weight,
    newest first), `releases` (that learned from it) and `history` (reviews: actor, action, reason, at; newest first).
    """
    row = row_search.get(db, noun, id)
    return {
        **row.to_json(),
        "evidence": _evidence(db, noun, id),
        "imported": _imported(db, noun, id),
        "snapshots": fetch_all(
            db.read(),
            """
            select snapshot_id as id, split, weight
            from snapshot_members
            join snapshots on snapshots.id = snapshot_id
            where item_id = $id
            order by created_at desc
            """,
            {"id": id},
        ),
        "releases": [found["ref"] for found in lineage.of_items(db, [id])],
        "history": _history(db, noun, id),
    }


def _evidence(db: Store, noun: str, id: str) -> list[Row]:
    if noun == "likes":
        rows = fetch_all(
            db.read(),
            """
            select if(liked, 'like', 'dislike') as kind, coalesce(vote_id, completion_id) as ref, user_name as person,
                created_at as at, null as comparison, null as choice, release
            from likes
            where id = $id and import_id is null
            """,
            {"id": id},
        )
    else:
        rows = fetch_all(
            db.read(),
            """
            select kind, ref, person, evidence.created_at as at, comparison_id as comparison, choice,
                coalesce(candidates.release, completions.release) as release
            from evidence
            left join votes on votes.id = ref
            left join candidates using (comparison_id)
            left join completions on completions.id = ref
            where subject_id = $id and (side is null or side = choice or choice in ('tie', 'both_bad') and side = 'a')
            order by evidence.created_at
            """,
            {"id": id},
        )
    refs = {row["release"] for row in rows if row["release"]}
    named = {row["id"]: row["ref"] for row in lineage.named(db.read(), sorted(refs))} if refs else {}
    return [row | {"at": stamp(row["at"]), "release": named.get(row["release"])} for row in rows]


def _imported(db: Store, noun: str, id: str) -> Row | None:
    rows = fetch_all(
        db.read(),
        f"""
        select imports.source as source, imported_by as by, imports.created_at as at
        from {noun}
        join imports on imports.id = import_id
        where {noun}.id = $id
        """,
        {"id": id},
    )
    return {**rows[0], "at": stamp(rows[0]["at"])} if rows else None


def _history(db: Store, noun: str, id: str) -> list[Row]:
    rows = fetch_all(
        db.read(),
        """
        select actor, action, detail, created_at
        from audit
        where subject = $id and starts_with(action, $kind)
        order by seq desc
        """,
        {"id": id, "kind": f"{NOUNS[noun]}."},
    )
    return [
        {
            "actor": row["actor"],
            "action": row["action"],
            "reason": loads(row["detail"]).get("reason"),
            "at": stamp(row["created_at"]),
        }
        for row in rows
    ]
