"""The gateway alone as a server, for load tests: a store in a scratch directory, one external engine.

    python -m bench.serving.gateway_app --engine URL --base MODEL --port P [--engine-key K] [--client ours] [--loop uvloop]

The model's public name is `assistant`. Served as `trimtab up` serves: uvicorn on uvloop with httptools.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

import serve.engine.engine
from bench.serving.http_clients import CLIENTS
from serve.adapters.reconciler import Reconciler
from serve.auth import Authenticator, Principal
from serve.build import ServingOptions, build_serving
from serve.engine.pool import EnginePool
from serve.engine.spec import EngineSpec
from serve.gateway.handler import HotPath
from serve.metering.limits import Limits
from serve.router import Router
from store.db.database import Store
from store.rollout import deployments

KEY = "bench"


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--engine-key")
    parser.add_argument("--base", default="stub")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--client", choices=("ours", *CLIENTS), default="ours")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    args = parser.parse_args()
    if args.client != "ours":
        serve.engine.engine.HttpStream = CLIENTS[args.client]  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as scratch, Store.open(Path(scratch) / "bench.duckdb") as db:
        deployments.ensure(db, "assistant", args.base)

        spec = EngineSpec("bench", args.base, args.base, url=args.engine, api_key=args.engine_key)
        pool = EnginePool([spec], Path(scratch))
        auth = Authenticator(db, local_keys={KEY: Principal("bench", frozenset({"ops"}), "local key")})
        options = ServingOptions(Limits(max_outstanding=10_000))
        reconciler = Reconciler(db, Router(), pool, Path(scratch) / "adapters")
        parts = build_serving(db, reconciler, auth, options)

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with parts.running():
                await reconciler.refresh()
                await pool.start()
                await pool.engines()[0].wait_ready(60)
                yield

        app = Starlette(routes=parts.routes(), lifespan=lifespan)
        app.add_middleware(HotPath, gateway=parts.gateway)
        uvicorn.run(
            app,
            host="127.0.0.1",
            port=args.port,
            log_level="warning",
            backlog=4096,
            loop=args.loop,
            http="httptools",
        )


if __name__ == "__main__":
    main()
