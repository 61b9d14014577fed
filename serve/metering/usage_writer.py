"""Usage on its way to the store: the counter's increments, written in batches by a thread of their own.

No request waits for it. A store that fails to write keeps the increments in memory, and they are tried again. A
platform that is killed loses the usage of its last seconds, and nothing that was written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from serve.metering.usage_counter import UsageCounter
from store.accounts import usage
from store.db.database import Store

log = logging.getLogger(__name__)
EVERY_S, RETRY_S = 1.0, 5.0


class UsageWriter:
    """Keeps counter and store together: `start` it before the first request, `close` it after the last."""

    def __init__(self, db: Store, counter: UsageCounter, every_s: float = EVERY_S) -> None:
        self._db, self._counter, self._every_s = db, counter, every_s
        self._writing = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> None:
        """Load what the store has of this day and month, and begin to write. Raises `duckdb.Error`."""
        with self._writing:
            self._write()
            self._load()
        self._thread.start()

    @contextmanager
    def erasing(self, holders: Iterable[str]) -> Iterator[None]:
        """Run the block, in which the store deletes these holders, between two writes; then drop them here.

        What they used before is written first, so that the block can say so. Raises `duckdb.Error`; nothing is lost then.
        """
        with self._writing:
            self._write()
            yield
            self._counter.drop(holders)
            self._load()

    def flush(self) -> bool:
        """Write what was used until now; False when the store cannot, which is logged, and everything is kept."""
        with self._writing:
            try:
                self._write()
                if not self._counter.loaded:
                    self._load()
            except Exception:
                log.exception("usage cannot be written; it is kept and tried again")
                return False
            return True

    def close(self) -> None:
        """Stop the thread and write what is left; blocks for as long as that takes."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self.flush():
            log.error("the usage of the last seconds could not be written to the store and is lost")

    def _write(self) -> None:
        increments = self._counter.take()
        if not increments:
            return
        try:
            usage.add(self._db, increments)
        except BaseException:
            self._counter.put_back()
            raise
        self._counter.written()

    def _load(self) -> None:
        day, month = self._counter.periods()
        of_day = usage.sums(self._db, day.first, day.last)
        self._counter.load(day, of_day, usage.sums(self._db, month.first, month.last))

    def _run(self) -> None:
        wait = self._every_s
        while not self._closing.wait(wait):
            wait = self._every_s if self.flush() else RETRY_S
