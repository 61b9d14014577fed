"""The requests under way on one engine: counted for balancing and draining, and kept off an adapter that is changing.

vLLM numbers an adapter anew at each load and compares requests by name: one that runs on under the old number beside one
with the new ends the engine. So an adapter is unloaded only while none of its requests runs or begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from serve.errors import AdapterNotLoaded, DrainTimeout

SETTLE_S = 0.25  # how long an aborted request may go on in the engine after its client left
POLL_S = 0.02


class InFlight:
    """Requests under way through `lease`: `outstanding` in all, `by_adapter` those that name an adapter.

    Belongs to one event loop. Errors name `engine`.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.outstanding = 0
        self.by_adapter: Counter[str] = Counter()
        self._paused: dict[str, asyncio.Event | None] = {}

    def begin(self, adapter: str | None) -> None:
        """Count one request as under way; `end` must follow."""
        self.outstanding += 1
        if adapter:
            self.by_adapter[adapter] += 1

    def end(self, adapter: str | None) -> None:
        """Count it as ended."""
        self.outstanding -= 1
        if adapter:
            self.by_adapter[adapter] -= 1
            if not self.by_adapter[adapter]:
                del self.by_adapter[adapter]

    @contextlib.contextmanager
    def lease(self, adapter: str | None) -> Iterator[None]:
        """Count one request as under way within a block."""
        self.begin(adapter)
        try:
            yield
        finally:
            self.end(adapter)

    @contextlib.asynccontextmanager
    async def pause_adapter(self, name: str, drain_timeout_s: float, refuse: bool) -> AsyncIterator[None]:
        """Run the block, which may unload adapter `name`, while none of its requests runs or begins.

        New requests are refused, or wait for the end of the block. Raises `DrainTimeout` when running ones take
        longer than `drain_timeout_s` seconds.
        """
        while name in self._paused:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        opened = None if refuse else asyncio.Event()
        self._paused[name] = opened
        try:
            await self.wait_until_idle(name, drain_timeout_s)
            await asyncio.sleep(SETTLE_S)
            yield
        finally:
            del self._paused[name]
            if opened is not None:
                opened.set()

    async def wait_until_open(self, name: str | None) -> None:
        """Wait while an adapter is paused; raises `AdapterNotLoaded` (404) when that is for good."""
        while name is not None and name in self._paused:
            opened = self._paused[name]
            if opened is None:
                raise AdapterNotLoaded(self._engine, f"{name} is being taken off", 404)
            await opened.wait()

    async def wait_until_idle(self, name: str, timeout: float) -> None:
        """Wait until no request of this adapter runs; raises `DrainTimeout` after `timeout` seconds."""
        end = time.monotonic() + timeout
        while self.by_adapter[name]:
            if time.monotonic() > end:
                raise DrainTimeout(f"{self.by_adapter[name]} requests of {name} still run on {self._engine}")
            await asyncio.sleep(POLL_S)
