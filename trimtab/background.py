"""Work on the store off the event loop: on short threads what answers at once, on their own what takes up to hours.

Long work is imports, exports, backups, erasures, snapshots. Its threads are few, and apart from those that authenticate
callers and read pages, so that these never queue behind it. Whatever waits for `Store.long_work` belongs here.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from store.db.database import Store

P = ParamSpec("P")
T = TypeVar("T")

IMPORT_THREADS = 2
"""Imports at a time. They are Python at work: more would only take the processor from each other and from the rest."""
LONG_THREADS = 3
"""Other long work at a time; a thread of its own each, so that an erasure does not wait for an import to end."""
SHORT_THREADS = 32
"""Short calls at a time. asyncio's own threads are few: a few votes that wait for an erasure would take them all."""


async def call_store(
    db: Store, function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call `function(db, ...)`, which answers at once, on a thread, so that the event loop never waits for the disk.

    What may take long goes to `LongWork`. Raises what the function raises, and StoreDamaged where it meets a damaged block.
    """
    return await _on_thread(None, db, partial(function, db, *args, **kwargs))


async def _on_thread(threads: Executor | None, db: Store, work: Callable[[], T]) -> T:
    context = contextvars.copy_context()
    with db.guarded():
        return await asyncio.get_running_loop().run_in_executor(threads, context.run, work)


class LongWork:
    """Threads for long work on a store; cancellation and progress are up to the caller.

    Work raises StoreDamaged where it meets a damaged block.
    """

    def __init__(self, db: Store) -> None:
        self._db = db
        self._imports = ThreadPoolExecutor(IMPORT_THREADS, "import")
        self._others = ThreadPoolExecutor(LONG_THREADS, "long-work")

    def submit_import(
        self, function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Call `function(db, ...)`, which imports rows; it waits while `IMPORT_THREADS` others run."""
        return self._imports.submit(self._guarded, partial(function, self._db, *args, **kwargs))

    async def run(self, function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call any other long `function(db, ...)` and return its result."""
        return await _on_thread(self._others, self._db, partial(function, self._db, *args, **kwargs))

    def _guarded(self, work: Callable[[], T]) -> T:
        with self._db.guarded():
            return work()

    def reserve_short_threads(self) -> None:
        """Give the running event loop `SHORT_THREADS` threads, so that calls that read pass those that must wait."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(SHORT_THREADS, "short"))

    def close(self) -> None:
        """Start nothing more; what runs is left to end by itself."""
        for threads in (self._imports, self._others):
            threads.shutdown(wait=False, cancel_futures=True)
