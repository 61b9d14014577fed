"""How many rows a snapshot would take, counted without building one: what triggers and checks of runs ask.

A row counts when it belongs to the deployment (or to all), whoever said it shares it for training, and somebody stands
behind it who is not excluded. What else a snapshot leaves out (duplicates, outvoted rows, shares of sources) needs the
selection itself, so a snapshot may take fewer.
"""

from __future__ import annotations

from collections.abc import Sequence

from store.accounts import sharing
from store.db.database import Store
from store.db.excluded import NOT_EXCLUDED
from store.db.rows import fetch_all, fetch_one, scalar
from store.errors import NotFound

_TABLES = {"dpo": "pairs", "sft": "demonstrations", "kto": "likes"}
_SINCE = """
and seq > (
    select coalesce(max(last_seq), 0) from snapshots where deployment = $deployment and method = $method
)
"""
# Of rows that were not imported, those that somebody supports who is not excluded.
_SUPPORTED = """
and (
    import_id is not null
    or id in (select subject_id from evidence where person is null or person not in (select unnest($excluded::varchar[])))
)
"""
_LIKED_BY = "and (user_name is null or user_name not in (select unnest($excluded::varchar[])))"


def count_all(db: Store, method: str, deployment: str, exclude_raters: Sequence[str] = ()) -> int:
    """Return how many rows there are to train on for a deployment by `method` ("dpo", "sft" or "kto")."""
    return _count(db, method, deployment, exclude_raters, "")


def count_new(db: Store, method: str, deployment: str, exclude_raters: Sequence[str] = ()) -> int:
    """Return how many of those arrived since the deployment's last snapshot for `method`."""
    return _count(db, method, deployment, exclude_raters, _SINCE)


def fresh_members(db: Store, snapshot: str) -> set[str]:
    """Return the held-out rows of a snapshot that its deployment's snapshot before it did not see; none without one."""
    cursor = db.read()
    facts = fetch_one(
        cursor,
        "select deployment, method, created_at from snapshots where id = $id",
        {"id": snapshot},
        otherwise=NotFound("snapshot", snapshot),
    )
    rows = fetch_all(
        cursor,
        f"""
        with earlier as (
            select max(last_seq) as seen
            from snapshots
            where deployment = $deployment and method = $method and created_at < $created_at and id <> $id
        )
        select item_id as id
        from snapshot_members
        join {_TABLES[facts["method"]]} as rows on rows.id = item_id
        where snapshot_id = $id and split = 'heldout' and seq > (from earlier)
        """,
        {**facts, "id": snapshot},
    )
    return {row["id"] for row in rows}


def _count(db: Store, method: str, deployment: str, exclude_raters: Sequence[str], since: str) -> int:
    cursor, table = db.read(), _TABLES[method]
    params: dict[str, object] = {"deployment": deployment}
    conditions = f"{since} and {NOT_EXCLUDED}"
    if since:
        params["method"] = method
    if not sharing.everybody_agrees(cursor, "train", db.share):
        conditions += f" and id not in ({sharing.withheld_rows(table, db.share)})"
    if exclude_raters:
        params["excluded"] = list(exclude_raters)
        conditions += _LIKED_BY if method == "kto" else _SUPPORTED
    return int(
        scalar(
            cursor, f"select count(*) from {table} where deployment in ('', $deployment) {conditions}", params
        )
    )
