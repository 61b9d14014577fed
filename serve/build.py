"""The one composition of serving, for the platform, the tests and the benchmarks: routing, gateway, and what they count.

Every part gets what it needs when it is made; nothing is assigned afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field

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
        """Return all routes but those of `HotPath`."""
        return [*self.gateway.routes(), *self.metrics.routes()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Count within the block; on leaving, let answers finish, stop the engines, and write what is queued.

        Reading the routing (`reconciler.refresh`) and starting the engines are left to the caller. Raises `duckdb.Error`.
        """
        # stopped in reverse, as work flows: gateway, engines, shadow, recorder, usage
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_writing(self.usage_writer))
            await stack.enter_async_context(aclosing(self.recorder))
            if self.shadow is not None:
                await stack.enter_async_context(aclosing(self.shadow))
            stack.push_async_callback(self.pool.stop)
            await stack.enter_async_context(aclosing(self.gateway))
            yield


@asynccontextmanager
async def _writing(usage: UsageWriter) -> AsyncIterator[None]:
    """Write what holders use, and on leaving whatever is not written yet."""
    await asyncio.to_thread(usage.start)
    try:
        yield
    finally:
        await asyncio.to_thread(usage.close)


def build_serving(
    db: Store,
    reconciler: Reconciler,
    authenticator: Authenticator,
    options: ServingOptions | None = None,
    on_alarm: OnAlarm | None = None,
) -> ServingParts:
    """Connect a gateway to the engines and the routing of `reconciler`.

    `on_alarm(target, why)` is awaited for a canary that fails too often.
    """
    options = options or ServingOptions()
    pool, router = reconciler.pool, reconciler.router
    metrics, recorder, counter = Metrics(), Recorder(db), UsageCounter()
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
        reconciler=reconciler,
        authenticator=authenticator,
        recorder=recorder,
        metrics=metrics,
        canaries=canaries,
        shadow=shadow,
        usage_counter=counter,
        usage_writer=UsageWriter(db, counter),
        gateway=Gateway(admission, forwarder, router, limiter, recorder, metrics, canaries, shadow),
    )
