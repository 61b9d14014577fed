"""The serving half of a platform around the shared engine: store, router, gateway, reconciler, real sockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette

from serve.adapters.reconciler import Reconciler
from serve.auth import Authenticator, Principal
from serve.engine.pool import EnginePool
from serve.gateway.handler import Gateway, HotPath, Limits
from serve.gateway.metrics import Metrics
from serve.gateway.recorder import Recorder
from serve.router import Router
from store.db.database import Store
from store.rollout import deployments
from tests.support.asgi import serving
from trimtab_client import AsyncClient

KEY = "operator-key"


@dataclass
class Part:
    """What a test needs of it; `client` speaks as an operator."""

    db: Store
    pool: EnginePool
    router: Router
    gateway: Gateway
    recorder: Recorder
    reconciler: Reconciler
    metrics: Metrics
    url: str
    client: AsyncClient

    @property
    def adapters_dir(self) -> Path:
        return self.pool.engines()[0].adapters_dir


@contextlib.asynccontextmanager
async def running(
    pool: EnginePool, directory: Path, base: str, limits: Limits | None = None
) -> AsyncIterator[Part]:
    """Run the gateway with a deployment `assistant` of `base`, whose answers are greedy by default."""
    with Store.open(directory / "trimtab.duckdb") as db:
        sampling = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
        deployments.ensure(db, "assistant", base, sampling=sampling)
        router, metrics, recorder = Router(), Metrics(), Recorder(db)
        operator = Principal("operator", frozenset({"ops"}), "local key")
        auth = Authenticator(db, local_keys={KEY: operator})
        gateway = Gateway(pool, router, auth, recorder, limits or Limits(), metrics)
        reconciler = Reconciler(db, router, pool, pool.engines()[0].adapters_dir)
        await reconciler.refresh()
        app = Starlette(routes=[*gateway.routes(), *metrics.routes()])
        app.add_middleware(HotPath, gateway=gateway)
        async with serving(app) as url, AsyncClient(url, KEY) as client:
            yield Part(db, pool, router, gateway, recorder, reconciler, metrics, url, client)
        await recorder.aclose()
