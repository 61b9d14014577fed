"""Brings what is served in line with what the store says: the routing table, and the adapters on every engine.

Desired state is in the store. An engine loses its adapters when it restarts, and an operation can be cut short
anywhere; so both are compared after each change, each engine start, and at intervals.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ParamSpec, TypeVar

from serve.adapters.first_use import warm_adapters
from serve.adapters.scaled_copy import PREFIX
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.errors import DrainTimeout, EngineFailed, ServeError
from serve.router import Router, RoutingTable, build_table
from store.db.database import Store

log = logging.getLogger(__name__)
INTERVAL_S = 15.0

P = ParamSpec("P")
T = TypeVar("T")


class Reconciler:
    """Joins store, router and engines. `run` does it at intervals; the rest at once."""

    def __init__(self, db: Store, router: Router, pool: EnginePool, adapters_dir: Path) -> None:
        self._db, self._dir = db, adapters_dir
        self.pool, self.router = pool, router
        self._refreshing = asyncio.Lock()
        pool.on_ready(self._prepare)

    async def refresh(self) -> None:
        """Read the store and route by it from the next request on. Raises `StoreError`, the old table staying."""
        async with self._refreshing:  # so that an older reading never replaces a newer one
            self.router.replace(await asyncio.to_thread(self._read))

    async def change(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write to the store and route by what it then holds, in one transaction; returns what `write(...)` does.

        One turn of a thread and one transaction for both: under load, every further one waits for the event loop, for
        a core, and for what others are flushing to the disk. What `write` raises leaves the old table standing.
        """

        def work() -> tuple[T, RoutingTable]:
            with self._db.atomic():
                return write(*args, **kwargs), self._read()

        async with self._refreshing:
            done, table = await asyncio.to_thread(work)
            self.router.replace(table)
        return done

    def _read(self) -> RoutingTable:
        return build_table(self._db, self.pool.bases(), self._dir)

    async def reconcile(self) -> list[str]:
        """Load what deployments route to on every ready engine; returns what could not be done, in words."""
        faults: list[str] = []
        for engine in self.pool.engines():
            if engine.state == "ready":
                faults += await self._adapters(engine)
        for fault in faults:
            log.warning("%s", fault)
        return faults

    async def run(self) -> None:
        """Refresh and reconcile at intervals, until cancelled; a failure is logged and the next turn tries again."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.refresh()
                await self.reconcile()
            except Exception:
                log.exception("reconciling failed; trying again in %.0f s", INTERVAL_S)

    def wanted(self, base: str) -> list[str]:
        """Return the adapters that deployments route to on this base."""
        live = (t for t in self.router.table.live() if t.base == base and t.adapter)
        return list(dict.fromkeys(str(target.adapter) for target in live))

    async def _prepare(self, engine: Engine) -> None:
        await warm_adapters(engine)
        for fault in await self._adapters(engine):
            log.warning("%s", fault)

    async def _adapters(self, engine: Engine) -> Iterable[str]:
        faults: list[str] = []
        try:
            present = await engine.adapters()
        except EngineFailed as error:
            return [str(error)]
        wanted = self.wanted(engine.spec.base)
        for name in wanted:
            if name in present:
                continue
            path = self._dir / name
            if not await asyncio.to_thread(path.is_dir):
                faults.append(f"adapter {name} is routed to and its directory {path} is missing")
                continue
            try:
                await engine.load_adapter(name, path.absolute())
            except ServeError as error:
                faults.append(str(error))
        # Others stay registered while there is room: a pinned release answers sooner. What is unloaded here
        # comes back on demand, by the resolver.
        idle = [name for name in present if name not in wanted and not engine.in_flight.by_adapter[name]]
        surplus = max(0, len(engine.loaded) - engine.spec.max_cpu_loras)
        left = [name for name in idle[surplus:] if name.startswith(PREFIX)]  # by a platform that was killed
        for name in [*idle[:surplus], *left]:
            try:
                async with engine.in_flight.pause_adapter(name, 1.0, refuse=False):
                    await engine.unload_adapter(name)
            except DrainTimeout:
                continue  # wanted again: the next turn sees
            except EngineFailed as error:
                faults.append(str(error))
        return faults
