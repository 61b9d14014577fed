"""Questions that are asked of pairs and of demonstrations alike."""

from __future__ import annotations

from typing import Any

from store.db.database import Cursor, Store
from store.db.rows import Row, check_limit, fetch_all, fetch_one, scalar
from store.errors import NotFound

EXACT = 100_000
"""Rows up to which different prompts are counted one by one; above, they are estimated to within a few hundredths."""

_IN_SCOPE = "($deployment is null or deployment in ('', $deployment))"


def page(
    db: Store, table: str, columns: str, limit: int, after: str | None, deployment: str | None
) -> list[Row]:
    """Return rows newest first, from below the row with id `after`; `NotFound` where there is none."""
    below = None
    if after is not None:
        below = one(db, table.removesuffix("s"), table, "seq", after)["seq"]
    return fetch_all(
        db.read(),
        f"""
        select {columns}
        from {table}
        where ($below is null or seq < $below) and {_IN_SCOPE}
        order by seq desc
        limit $limit
        """,
        {"below": below, "deployment": deployment, "limit": check_limit(limit)},
    )


def one(db: Store, noun: str, table: str, columns: str, id: str) -> Row:
    """Return the row with an id; `NotFound` names the noun."""
    row = fetch_one(
        db.read(), f"select {columns} from {table} where id = $id", {"id": id}, otherwise=NotFound(noun, id)
    )
    return row


def count(db: Store, table: str, deployment: str | None) -> int:
    """Return how many rows there are in a deployment's scope (None: all)."""
    return int(
        scalar(db.read(), f"select count(*) from {table} where {_IN_SCOPE}", {"deployment": deployment})
    )


def count_new(db: Store, table: str, deployment: str, method: str) -> int:
    """Return how many rows in a deployment's scope are newer than its last snapshot for `method`."""
    return int(
        scalar(
            db.read(),
            f"""
            select count(*)
            from {table}
            where deployment in ('', $deployment) and seq > (
                select coalesce(max(last_seq), 0)
                from snapshots
                where deployment = $deployment and method = $method
            )
            """,
            {"deployment": deployment, "method": method},
        )
    )


def prompts(cursor: Cursor, table: str) -> int:
    """Return how many different prompts the rows have; an estimate above `EXACT` rows."""
    few = int(scalar(cursor, f"select count(*) from {table}")) <= EXACT
    counted = "count(distinct prompt_hash)" if few else "approx_count_distinct(prompt_hash)"
    return int(scalar(cursor, f"select {counted} from {table}"))


def groups(cursor: Cursor, table: str) -> dict[str, Any]:
    """Return counts by_source, by_deployment and by_tag."""
    found = {}
    for key, sql in (
        (
            "by_source",
            f"select source as name, count(*) as n from {table} group by name order by n desc, name",
        ),
        (
            "by_deployment",
            f"select deployment as name, count(*) as n from {table} group by name order by n desc, name",
        ),
        (
            "by_tag",
            f"select unnest(tags) as name, count(*) as n from {table} group by name order by n desc, name",
        ),
    ):
        found[key] = {row["name"]: row["n"] for row in fetch_all(cursor, sql)}
    return found
