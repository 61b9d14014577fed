"""Closes DuckDB's connections, also those that another thread waits for."""

from __future__ import annotations

import threading
import time

import duckdb

TIMEOUT_S = 30.0
"""Seconds until a query that was interrupted must have ended."""
INTERRUPT_S = 0.05
"""Seconds between interrupts while a connection is being closed."""


def close(connection: duckdb.DuckDBPyConnection) -> None:
    """Close a connection or cursor; where another thread waits for its answer, that query is interrupted.

    Blocking. Raises `duckdb.ResourceInUseException` where it has not ended after `TIMEOUT_S`.
    """
    closed = threading.Event()

    def interrupt() -> None:
        while not closed.wait(INTERRUPT_S):
            try:
                connection.interrupt()
            except duckdb.Error:
                return

    # From a thread of its own: where the query is only just beginning, DuckDB's close waits for it instead of raising.
    interrupting = threading.Thread(target=interrupt, name="interrupt", daemon=True)
    interrupting.start()
    end = time.monotonic() + TIMEOUT_S
    try:
        while True:
            try:
                connection.close()
                return
            except duckdb.ResourceInUseException:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
    finally:
        closed.set()
        interrupting.join()
