"""Between DuckDB's rows and our values: times, JSON columns, message lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb

from store import carried
from store.db.database import Cursor, damage_in, statement
from store.errors import Invalid, StoreError
from store.values import Conversation, Message

Row = dict[str, Any]


def run(cursor: Cursor, sql: str, params: Mapping[str, Any] | None = None) -> Cursor:
    """Run one statement with `$name` parameters and return the cursor, which holds its result.

    Raises `StoreDamaged` where it meets a damaged block of a store, else what DuckDB raises.
    """
    try:
        return cursor.execute(statement(cursor, sql), dict(params or {}))
    except duckdb.Error as error:
        if damage := damage_in(cursor, error):
            raise damage from error
        raise


def fetch_all(cursor: Cursor, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
    """Run a query as `run` does and return its rows as dicts by column name."""
    run(cursor, sql, params)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def fetch_first(cursor: Cursor, sql: str, params: Mapping[str, Any] | None = None) -> Row | None:
    """Run a query and return its first row, or None."""
    rows = fetch_all(cursor, sql, params)
    return rows[0] if rows else None


def fetch_one(
    cursor: Cursor, sql: str, params: Mapping[str, Any] | None = None, *, otherwise: StoreError | None = None
) -> Row:
    """Run a query and return its first row. Raises `otherwise` where there is none.

    Without `otherwise`, for queries that always give a row (sums and counts): no row is then a `LookupError`.
    """
    row = fetch_first(cursor, sql, params)
    if row is None:
        raise otherwise or LookupError(f"no row from: {sql}")
    return row


def scalar(cursor: Cursor, sql: str, params: Mapping[str, Any] | None = None) -> Any:
    """Run a query that gives one row of one column and return that value."""
    # All rows, although there is one: an unfinished result keeps the connection from registering a table.
    return run(cursor, sql, params).fetchall()[0][0]


def aware(value: datetime | None) -> datetime | None:
    """Return a stored time with its zone, UTC."""
    return None if value is None else value.replace(tzinfo=UTC)


def stamp(value: datetime) -> datetime:
    """Return a stored time that is never null with its zone, UTC."""
    return value.replace(tzinfo=UTC)


def naive(value: datetime) -> datetime:
    """Return an aware time as the store keeps it: UTC without zone."""
    return value.astimezone(UTC).replace(tzinfo=None)


def loads(value: str | None) -> Any:
    """Read a JSON column."""
    return None if value is None else json.loads(value)


def dumps(value: object, field: str) -> str | None:
    """Write a JSON column; `Invalid` naming `field` for what JSON cannot hold."""
    if value is None:
        return None
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise Invalid(
            field, value, "JSON values (text, finite numbers, true, false, null, lists, objects)"
        ) from None


def messages(value: Iterable[Mapping[str, str]], packed: str | None = None, part: str = "") -> Conversation:
    """Read a message-list column, with what its messages carry (`part` of the row's column `carried`)."""
    extra = carried.unpack(packed, part)
    return tuple(
        Message(item["role"], item["content"], extra.get(place, "")) for place, item in enumerate(value)
    )


def check_limit(limit: int, most: int = 1000) -> int:
    """Return a page size; `Invalid` unless it is 1 to `most`."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most:
        raise Invalid("limit", limit, f"a whole number from 1 to {most}")
    return limit
