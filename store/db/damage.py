"""Telling a damaged file from other failures of DuckDB, and reading everything once to find damage.

DuckDB checks a block's checksum when it reads the block, so damage shows in whatever reads it first: a query, a backup,
or `read_all`, which is there to find it before the work does.
"""

from __future__ import annotations

import duckdb

# What reading a file that is no store, or only part of one, may raise while it is opened.
_OPENING = (
    duckdb.FatalException,
    duckdb.IOException,
    duckdb.SerializationException,
    duckdb.InternalException,
)


def is_damage(error: BaseException, opening: bool = False) -> bool:
    """Say whether a failure means that the file is damaged.

    A failed checksum comes as the base class itself; a subclass such as ParserException is our fault. In an open store
    an IOException is a full disk more likely than a damaged file, and a FatalException only repeats what came before.
    """
    if type(error) is duckdb.Error or isinstance(error, duckdb.SerializationException):
        return True
    if opening:
        return type(error) in _OPENING
    return isinstance(error, duckdb.FatalException) and "Corrupt database file" in str(error)


def read_all(cursor: duckdb.DuckDBPyConnection) -> None:
    """Read every table; raises what DuckDB raises for a damaged block.

    Every value is decompressed and hashed, since nothing cheaper makes DuckDB read the blocks: for 1.2 GB (a million pairs)
    2 s on two cores.
    """
    for (table,) in cursor.execute("select table_name from duckdb_tables() where not internal").fetchall():
        cursor.execute(f"select bit_xor(hash({table})) from {table}").fetchall()
