"""Closing a connection ends the query that another thread waits for, at whatever moment it comes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

SCRIPT = textwrap.dedent("""
    import threading, time
    import duckdb
    from store.db.closing import close

    connection = duckdb.connect()
    for n in range(60):
        cursor, began = connection.cursor(), threading.Event()

        def ask():
            began.set()
            try:
                cursor.execute("select max(a.i + b.i) from range(1000000000) a(i), range(1000000000) b(i)").fetchall()
            except (duckdb.InterruptException, duckdb.ConnectionException):
                pass

        asking = threading.Thread(target=ask)
        asking.start()
        began.wait()
        until = time.perf_counter() + n % 20 * 0.00015  # to meet each moment of its beginning
        while time.perf_counter() < until:
            pass
        close(cursor)
        asking.join()
    print("closed")
""")


def test_a_query_that_has_only_begun_does_not_keep_its_connection_open() -> None:
    """In a process of its own, which can be killed: an endless query that nothing interrupts ends with its process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "closed\n", done.stderr
