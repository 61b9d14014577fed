"""The engines of the platform: which there are, which one takes the next request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

from serve.engine.cards.placement import Cards
from serve.engine.engine import Engine
from serve.engine.process import reap_leftovers
from serve.engine.spec import EngineSpec
from serve.errors import EngineUnavailable


class EnginePool:
    """All engines; a base model may have several (its replicas). Raises ValueError for a name used twice."""

    def __init__(self, specs: Iterable[EngineSpec], data_dir: Path) -> None:
        self._data_dir = data_dir
        self.cards = Cards()
        self._engines: list[Engine] = []
        self._by_base: dict[str, list[Engine]] = {}
        self._callbacks: list[Callable[[Engine], Awaitable[None]]] = []
        self.add(specs)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def adapter_lock(self, name: str) -> asyncio.Lock:
        """Return the lock under which an adapter is published or withdrawn; it lives while somebody holds it."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def start(self) -> None:
        """Begin starting every engine; what an earlier platform left running is ended first."""
        await asyncio.to_thread(reap_leftovers, self._data_dir / "processes")
        for engine in self._engines:
            await engine.start()

    def add(self, specs: Iterable[EngineSpec]) -> Sequence[Engine]:
        """Take further engines and return them, not started yet. Raises ValueError for a name used twice."""
        added = [Engine(spec, self._data_dir, self.cards) for spec in specs]
        names = [engine.spec.name for engine in (*self._engines, *added)]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"engine name {sorted(twice)[0]!r} is used twice; names must differ")
        for engine in added:
            engine.on_ready += self._callbacks
            self._by_base.setdefault(engine.spec.base, []).append(engine)
        self._engines += added
        return added

    def remove(self, base: str) -> Sequence[Engine]:
        """Take away every engine of a base model and return them; no request is sent to them any more."""
        gone = self._by_base.pop(base, [])
        self._engines = [engine for engine in self._engines if engine not in gone]
        return gone

    async def stop(self) -> None:
        """Stop every engine, all at once."""
        await asyncio.gather(*(engine.stop() for engine in self._engines))

    def bases(self) -> list[str]:
        """Return the names of the base models, in the order of the settings."""
        return list(self._by_base)

    def engines(self, base: str | None = None) -> Sequence[Engine]:
        """Return the engines of a base model, or all of them."""
        return self._engines if base is None else self._by_base.get(base, [])

    def pick(self, base: str, adapter: str | None = None, avoid: Iterable[Engine] = ()) -> Engine:
        """Return the ready replica with the fewest requests under way, at a tie one that holds the adapter.

        Engines in `avoid` are taken only when there is no other. Raises `EngineUnavailable`.
        """
        ready = [engine for engine in self._by_base.get(base, ()) if engine.state == "ready"]
        if not ready:
            raise self._unavailable(base)
        if len(ready) == 1:
            return ready[0]
        avoided = set(avoid)
        return min(
            ready,
            key=lambda e: (
                e in avoided,
                e.in_flight.outstanding,
                adapter is not None and adapter not in e.loaded,
            ),
        )

    def _unavailable(self, base: str) -> EngineUnavailable:
        engines = self._by_base.get(base, [])
        if not engines:
            return EngineUnavailable(base, "no engine is configured for it", 60)
        why = "; ".join(f"{engine.spec.name} is {engine.state}: {engine.detail}" for engine in engines)
        return EngineUnavailable(base, why, 5 if any(e.state == "starting" for e in engines) else 10)

    async def read_queues(self) -> None:
        """Have every ready engine's `queue` say how many requests wait in it now."""
        await asyncio.gather(*(engine.read_queue() for engine in self._engines))

    def on_ready(self, callback: Callable[[Engine], Awaitable[None]]) -> None:
        """Have `callback(engine)` awaited each time an engine can answer, before it gets traffic."""
        self._callbacks.append(callback)
        for engine in self._engines:
            engine.on_ready.append(callback)
