"""Threads for what takes from seconds to hours: imports, exports, backups, erasures, snapshots.

They are few, and apart from the threads that authenticate callers and read pages, so that those never queue behind
them. Whatever waits for `Store.long_work` belongs here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from store.db.database import Store

T = TypeVar("T")

IMPORTS = 2
"""Imports at a time. They are Python at work: more would only take the processor from each other and from the rest."""
OTHERS = 3
"""Other long work at a time; a thread of its own each, so that an erasure does not wait for an import to end."""
SHORT = 32
"""Calls that answer at once, at a time. asyncio's own are few: a few votes that wait for an erasure would take them all."""


class LongWork:
    """Runs long work on a store, and says no more than that: cancelling and progress are the business of who submits it.

    Work raises StoreDamaged where it meets a damaged block.
    """

    def __init__(self, db: Store) -> None:
        self._db = db
        self._imports = ThreadPoolExecutor(IMPORTS, "import")
        self._others = ThreadPoolExecutor(OTHERS, "long-work")

    def submit_import(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function that takes rows in; it waits while `IMPORTS` others run."""
        return self._imports.submit(self._guarded, function, *args, **kwargs)

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run any other function that takes long and return what it does."""
        work = partial(self._guarded, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._others, work)

    def _guarded(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self._db.guarded():
            return function(*args, **kwargs)

    def make_room(self) -> None:
        """Give the running event loop threads enough for short calls, so that those that read pass those that must wait."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(SHORT, "short"))

    def close(self) -> None:
        """Start nothing more; what runs is left to end by itself."""
        for threads in (self._imports, self._others):
            threads.shutdown(wait=False, cancel_futures=True)
