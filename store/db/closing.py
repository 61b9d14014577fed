"""Closes DuckDB's connections, also those that another thread waits for."""

from __future__ import annotations

import time

import duckdb

TIMEOUT_S = 30.0
"""Seconds until a query that was interrupted must have ended."""


def close(connection: duckdb.DuckDBPyConnection) -> None:
    """Close a connection or cursor; where another thread waits for its answer, that query is interrupted first.

    Blocking. Raises `duckdb.ResourceInUseException` where it has not ended after `TIMEOUT_S`.
    """
    end = time.monotonic() + TIMEOUT_S
    while True:
        try:
            connection.close()
            return
        except duckdb.ResourceInUseException:
            if time.monotonic() > end:
                raise
            connection.interrupt()
            time.sleep(0.01)
