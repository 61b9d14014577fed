"""Many rows at once: values become one Arrow table, and the table one `insert … select`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import duckdb
import pyarrow as pa

from store import carried
from store.db.database import Cursor
from store.db.rows import Row, fetch_one, run
from store.values import Conversation

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
TEXTS = pa.list_(pa.string())
Columns = dict[str, list[Any]]


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


def carrying(parts: Mapping[str, Sequence[Conversation]]) -> dict[str, Any]:
    """Return the column `carried` of rows, from their conversations by part; none where all messages are plain."""
    if not any(message.carried for part in parts.values() for row in part for message in row):
        return {}
    packed = [
        carried.pack({name: [m.carried for m in part] for name, part in zip(parts, row, strict=True)})
        for row in zip(*parts.values(), strict=True)
    ]
    return {"carried": pa.array(packed, pa.string())}


def carrying_row(parts: Mapping[str, Conversation]) -> Row:
    """Return the column `carried` of a row, from its conversations by part; none where all messages are plain."""
    packed = carried.pack({name: [m.carried for m in part] for name, part in parts.items()})
    return {"carried": packed} if packed else {}


def plain(part: Conversation) -> list[dict[str, str]]:
    """Return messages as a message-list column keeps them."""
    return [{"role": message.role, "content": message.content} for message in part]


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


def insert_together(cursor: Cursor, rows: Sequence[tuple[str, Row]]) -> None:
    """Insert a few new rows, given with their tables, as one statement; a column that a row lacks is null.

    A statement of one row costs DuckDB most of a millisecond, whatever it inserts: four rows of four tables together
    take half the time of four statements. Raises `duckdb.ConstraintException` where a row is there already.
    """
    tables: dict[str, list[Row]] = {}
    for table, row in rows:
        tables.setdefault(table, []).append(row)
    inserts: list[str] = []
    params: Row = {}
    for t, (table, of_table) in enumerate(tables.items()):
        names = list(dict.fromkeys(name for row in of_table for name in row))
        for n, row in enumerate(of_table):
            params |= {f"{name}_{t}_{n}": row.get(name) for name in names}
        places = [", ".join(f"${name}_{t}_{n}" for name in names) for n in range(len(of_table))]
        # `values` of one row takes a fifth longer than `select`.
        source = f"select {places[0]}" if len(places) == 1 else f"values ({'), ('.join(places)})"
        inserts.append(f"insert into {table} ({', '.join(names)}) {source}")
    _at_once(cursor, inserts, params)


def insert_columns(cursor: Cursor, tables: Mapping[str, Columns]) -> None:
    """Insert some new rows of several tables as one statement, as `insert_together` does, given as lists by column.

    The statement is the same for any number of rows. Not for imports: thousands of values take long as parameters.
    """
    inserts: list[str] = []
    params: Row = {}
    for t, (table, columns) in enumerate(tables.items()):
        if any(columns.values()):
            params |= {f"{name}_{t}": values for name, values in columns.items()}
            places = ", ".join(f"unnest(${name}_{t})" for name in columns)
            inserts.append(f"insert into {table} ({', '.join(columns)}) select {places}")
    _at_once(cursor, inserts, params)


def _at_once(cursor: Cursor, inserts: Sequence[str], params: Row) -> None:
    """Run inserts as one statement, each into another table: nothing says in what order they run."""
    if inserts:
        *first, last = inserts
        together = ", ".join(f"into_{n} as ({insert})" for n, insert in enumerate(first))
        run(cursor, f"with {together} {last}" if first else last, params)


def insert_once(cursor: Cursor, table: str, row: Row) -> str:
    """Insert one row, or find the one of the same content and deployment; return its id.

    Inserting first matters: the unique index answers at once, while looking a hash up would read the whole column (an
    index of two columns serves no look-ups).
    """
    names = ", ".join(row)
    places = ", ".join(f"${name}" for name in row)
    run(cursor, f"insert into {table} ({names}) select {places} on conflict do nothing returning id", row)
    if cursor.fetchall():
        return str(row["id"])
    known = fetch_one(
        cursor,
        f"select id from {table} where content_hash = $content_hash and deployment = $deployment",
        {"content_hash": row["content_hash"], "deployment": row["deployment"]},
    )
    return str(known["id"])
