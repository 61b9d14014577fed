"""Pages, counts and statistics that pairs and demonstrations have alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from store.db.database import Cursor, Store
from store.db.rows import Row, check_limit, fetch_all, fetch_one, scalar
from store.errors import NotFound

EXACT = 100_000
"""Rows up to which different prompts are counted one by one; above, they are estimated to within a few hundredths."""

IN_SCOPE = "($deployment is null or deployment in ('', $deployment))"
"""The rows of a deployment and those of every deployment, in SQL; of all where `$deployment` is null."""

R = TypeVar("R")


class Listing(Generic[R]):
    """Page, single rows and counts of one kind of training rows; `read` makes a record of a row.

    `noun` names the kind in errors.
    """

    def __init__(self, noun: str, table: str, columns: str, read: Callable[[Row], R]) -> None:
        self._noun, self._table, self._columns = noun, table, columns
        self._read = read

    def page(
        self, db: Store, limit: int = 50, after: str | None = None, deployment: str | None = None
    ) -> list[R]:
        """Return a page of rows, newest first; `after` is the last id of the page before.

        With `deployment`, its own rows and those of every deployment. Raises `NotFound` for an unknown `after`.
        """
        below = None if after is None else one(db, self._noun, self._table, "seq", after)["seq"]
        rows = fetch_all(
            db.read(),
            f"""
            select {self._columns}
            from {self._table}
            where ($below is null or seq < $below) and {IN_SCOPE}
            order by seq desc
            limit $limit
            """,
            {"below": below, "deployment": deployment, "limit": check_limit(limit)},
        )
        return [self._read(row) for row in rows]

    def get(self, db: Store, id: str) -> R:
        """Return a row. Raises `NotFound`."""
        return self._read(one(db, self._noun, self._table, self._columns, id))

    def count(self, db: Store, deployment: str | None = None) -> int:
        """Return how many rows there are, of every deployment or of one (shared rows included)."""
        return int(
            scalar(
                db.read(), f"select count(*) from {self._table} where {IN_SCOPE}", {"deployment": deployment}
            )
        )

    def stats(self, db: Store, measures: str) -> dict[str, Any]:
        """Return total, prompts (see `prompts`), `measures` (SQL), by_source, by_deployment and by_tag."""
        cursor = db.read()
        whole = fetch_one(cursor, f"select count(*) as total, {measures} from {self._table}")
        counted = {"total": whole["total"], "prompts": prompts(cursor, self._table)}
        return {**counted, **whole, **groups(cursor, self._table)}


def one(db: Store, noun: str, table: str, columns: str, id: str) -> Row:
    """Return the row with an id; `NotFound` names the noun."""
    return fetch_one(
        db.read(),
        f"select {columns} from {table} where id = $id",
        {"id": id},
        otherwise=NotFound(noun, id),
    )


def prompts(cursor: Cursor, table: str) -> int:
    """Return how many different prompts the rows have; an estimate above `EXACT` rows."""
    few = int(scalar(cursor, f"select count(*) from {table}")) <= EXACT
    counted = "count(distinct prompt_hash)" if few else "approx_count_distinct(prompt_hash)"
    return int(scalar(cursor, f"select {counted} from {table}"))


def groups(cursor: Cursor, table: str) -> dict[str, Any]:
    """Return counts by_source, by_deployment and by_tag."""
    names = {"by_source": "source", "by_deployment": "deployment", "by_tag": "unnest(tags)"}
    return {
        key: {
            row["name"]: row["n"]
            for row in fetch_all(
                cursor,
                f"select {name} as name, count(*) as n from {table} group by name order by n desc, name",
            )
        }
        for key, name in names.items()
    }
