"""Many rows at once: values become one Arrow table, and the table one `insert … select`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import duckdb
import pyarrow as pa

from store.database import Cursor
from store.rows import fetch_one
from store.values import Conversation

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
TEXTS = pa.list_(pa.string())


def message_rows(parts: Sequence[Conversation]) -> pa.Array:
    """Return conversations as an Arrow column of message lists."""
    offsets = [0]
    roles: list[str] = []
    contents: list[str] = []
    for part in parts:
        roles.extend(message.role for message in part)
        contents.extend(message.content for message in part)
        offsets.append(len(roles))
    structs = pa.StructArray.from_arrays(
        [pa.array(roles, pa.string()), pa.array(contents, pa.string())], names=["role", "content"]
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs)


def characters(part: Conversation) -> int:
    """Return how many characters the messages have together."""
    return sum(len(message.content) for message in part)


def insert(cursor: Cursor, table: str, columns: dict[str, Any]) -> None:
    """Insert rows given as columns. Raises `duckdb.ConstraintException` where the table holds one of them already.

    Without `on conflict`, for which DuckDB 2.0 reads the key columns of the whole table at each insert, while the unique
    index answers at once.
    """
    cursor.register("incoming", pa.table(columns))
    try:
        names = ", ".join(columns)
        cursor.execute(f"insert into {table} ({names}) select {names} from incoming")
    finally:
        with suppress(duckdb.TransactionException):  # refused: the next batch takes the name over
            cursor.unregister("incoming")


def insert_once(cursor: Cursor, table: str, values: dict[str, Any], *, fresh: bool = False) -> str:
    """Insert one row, or find the one of the same content and deployment; return its id.

    For single rows, where planning an Arrow scan takes longer than the insert. Inserting first matters: the unique index
    answers at once, while looking a hash up would read the whole column (an index of two columns serves no look-ups).
    `fresh` takes the row for new, in less than half the time, and raises `duckdb.ConstraintException` where it is not.
    """
    names = ", ".join(values)
    insert = f"insert into {table} ({names}) values ({', '.join(f'${name}' for name in values)})"
    if fresh:
        cursor.execute(insert, values)
        return str(values["id"])
    cursor.execute(f"{insert} on conflict do nothing returning id", values)
    if cursor.fetchall():
        return str(values["id"])
    known = fetch_one(
        cursor,
        f"select id from {table} where content_hash = $content_hash and deployment = $deployment",
        {"content_hash": values["content_hash"], "deployment": values["deployment"]},
    )
    assert known is not None
    return str(known["id"])
