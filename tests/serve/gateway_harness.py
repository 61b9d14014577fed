"""The serving half of a platform around the shared engine: store, router, gateway, reconciler, real sockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette

from serve.adapters.reconciler import Reconciler
from serve.auth import Authenticator, Principal
from serve.build import ServingOptions, ServingParts, build_serving
from serve.engine.pool import EnginePool
from serve.engine.spec import EngineSpec
from serve.gateway.handler import Gateway, HotPath
from serve.gateway.metrics import Metrics
from serve.gateway.recorder import Recorder
from serve.metering.limits import Limits
from serve.router import Router
from store.db.database import Store
from store.rollout import deployments
from tests.support import stub_engine
from tests.support.asgi import serving
from trimtab_client import AsyncClient

KEY = "operator-key"


@dataclass(frozen=True)
class Part:
    """What a test needs of it; `client` speaks as an operator."""

    db: Store
    parts: ServingParts
    url: str
    client: AsyncClient

    @property
    def pool(self) -> EnginePool:
        return self.parts.pool

    @property
    def router(self) -> Router:
        return self.parts.router

    @property
    def gateway(self) -> Gateway:
        return self.parts.gateway

    @property
    def recorder(self) -> Recorder:
        return self.parts.recorder

    @property
    def reconciler(self) -> Reconciler:
        return self.parts.reconciler

    @property
    def metrics(self) -> Metrics:
        return self.parts.metrics

    @property
    def adapters_dir(self) -> Path:
        return self.pool.engines()[0].adapters_dir


@contextlib.asynccontextmanager
async def stub_pool(directory: Path) -> AsyncIterator[EnginePool]:
    """Run a pool of one engine, which `tests.support.stub_engine` stands in for."""
    async with serving(stub_engine.app()) as url:
        spec = EngineSpec("stub", stub_engine.MODEL, stub_engine.MODEL, url=url, probe_interval_s=600)
        pool = EnginePool([spec], directory)
        await pool.start()
        await pool.engines()[0].wait_ready(60)
        yield pool
        await pool.stop()


@contextlib.asynccontextmanager
async def stub_replicas(directory: Path, count: int) -> AsyncIterator[tuple[Part, list[Starlette]]]:
    """Run the gateway over `count` stub engines of one base, and yield the engines too; the first is asked first."""
    async with contextlib.AsyncExitStack() as stack:
        apps = [stub_engine.app() for _ in range(count)]
        specs = [
            EngineSpec(f"stub-{n}", stub_engine.MODEL, stub_engine.MODEL, url=url, probe_interval_s=600)
            for n, url in enumerate([await stack.enter_async_context(serving(app)) for app in apps])
        ]
        pool = EnginePool(specs, directory)
        await pool.start()
        for engine in pool.engines():
            await engine.wait_ready(60)
        part = await stack.enter_async_context(running(pool, directory, stub_engine.MODEL))
        stack.push_async_callback(pool.stop)
        yield part, apps


@contextlib.asynccontextmanager
async def running(
    pool: EnginePool,
    directory: Path,
    base: str,
    limits: Limits | None = None,
    options: ServingOptions | None = None,
) -> AsyncIterator[Part]:
    """Run the gateway with a deployment `assistant` of `base`, whose answers are greedy by default."""
    with Store.open(directory / "trimtab.duckdb") as db:
        sampling = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
        deployments.ensure(db, "assistant", base, sampling=sampling)
        operator = Principal("operator", frozenset({"ops"}), "local key")
        auth = Authenticator(db, local_keys={KEY: operator})
        options = options or ServingOptions(limits or Limits())
        reconciler = Reconciler(db, Router(), pool, pool.engines()[0].adapters_dir)
        parts = build_serving(db, reconciler, auth, options)
        await parts.reconciler.refresh()
        app = Starlette(routes=parts.routes())
        app.add_middleware(HotPath, gateway=parts.gateway)
        async with serving(app) as url, AsyncClient(url, KEY) as client:
            yield Part(db, parts, url, client)
        if parts.shadow is not None:
            await parts.shadow.aclose()
        await parts.recorder.aclose()
