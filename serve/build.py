"""The one composition of serving, for the platform, the tests and the benchmarks: routing, gateway, and what they count.

Every part gets what it needs when it is made; nothing is assigned afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.routing import BaseRoute

from serve.adapters.reconciler import Reconciler
from serve.auth import Authenticator
from serve.engine.pool import EnginePool
from serve.gateway.admission import Admission
from serve.gateway.canary_monitor import CanaryMonitor, CanaryPolicy, OnAlarm
from serve.gateway.forwarder import Forwarder
from serve.gateway.handler import Gateway
from serve.gateway.metrics import Metrics
from serve.gateway.recorder import Recorder
from serve.gateway.shadow import Shadow
from serve.metering.limits import Limits
from serve.metering.rate_limiter import RateLimiter
from serve.metering.usage_counter import UsageCounter
from serve.metering.usage_writer import UsageWriter
from serve.router import Router
from store.db.database import Store


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How to serve: limits of the gateway, when a canary is given up, and what it is shown unseen.

    `shadow_fraction` (0 to 1) of a stable release's conversations are copied to its canary, of those that come from
    `shadow_sources` (None: from any).
    """

    limits: Limits = field(default_factory=Limits)
    canary: CanaryPolicy = field(default_factory=CanaryPolicy)
    shadow_fraction: float = 0.0
    shadow_sources: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class ServingParts:
    """What serves, connected. `usage_writer` is not running yet."""

    pool: EnginePool
    router: Router
    reconciler: Reconciler
    authenticator: Authenticator
    recorder: Recorder
    metrics: Metrics
    canaries: CanaryMonitor
    shadow: Shadow | None
    usage_counter: UsageCounter
    usage_writer: UsageWriter
    gateway: Gateway

    def routes(self) -> list[BaseRoute]:
        """Return all routes but the two of `HotPath`."""
        return [*self.gateway.routes(), *self.metrics.routes()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Count and route within the block; on leaving, let answers finish, stop the engines, and write what is queued.

        Starting the engines is left to the caller. Raises `StoreError` and `duckdb.Error`.
        """
        await asyncio.to_thread(self.usage_writer.start)
        try:
            await self.reconciler.refresh()
            yield
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Stop in the order in which work flows: gateway, engines, shadow, recorder, usage."""
        await self.gateway.aclose()
        await self.pool.stop()
        if self.shadow is not None:
            await self.shadow.aclose()
        await self.recorder.aclose()
        await asyncio.to_thread(self.usage_writer.close)


def build_serving(
    db: Store,
    pool: EnginePool,
    authenticator: Authenticator,
    adapters_dir: Path,
    options: ServingOptions | None = None,
    on_alarm: OnAlarm | None = None,
) -> ServingParts:
    """Connect what serves `pool` by what `db` says; `on_alarm(target, why)` is called for a canary that fails."""
    options = options or ServingOptions()
    router, metrics, recorder, counter = Router(), Metrics(), Recorder(db), UsageCounter()
    canaries = CanaryMonitor(options.canary, on_alarm)
    limiter = RateLimiter(options.limits, counter=counter)
    forwarder = Forwarder(pool, options.limits, metrics)
    shadow = None
    if options.shadow_fraction:
        shadow = Shadow(
            forwarder.ask, canaries, router, db, options.shadow_fraction, sources=options.shadow_sources
        )
    admission = Admission(authenticator, router, recorder, options.limits)
    metrics.watch(pool, recorder, limiter)
    return ServingParts(
        pool=pool,
        router=router,
        reconciler=Reconciler(db, router, pool, adapters_dir),
        authenticator=authenticator,
        recorder=recorder,
        metrics=metrics,
        canaries=canaries,
        shadow=shadow,
        usage_counter=counter,
        usage_writer=UsageWriter(db, counter),
        gateway=Gateway(admission, forwarder, router, limiter, recorder, metrics, canaries, shadow),
    )
