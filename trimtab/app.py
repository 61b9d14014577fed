"""Builds and connects the platform: one ASGI app, one lifespan that owns every resource. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.requests import Request
from starlette.responses import Response

from align.evaluation.suite import ChatApi
from common.net import is_loopback
from serve.auth import Authenticator, Principal
from serve.build import ServingOptions, build_serving
from serve.engine.pool import EnginePool
from serve.engine.spec import EngineSpec
from serve.gateway.canary_monitor import CanaryPolicy
from serve.gateway.content_encoding import CompressedBodies
from serve.gateway.handler import HotPath
from serve.router import Target
from store.db.database import Store
from store.db.redaction import redactor
from store.errors import StoreDamaged
from store.rollout import deployments, runs
from store.training_data import pairs
from trimtab import __version__, erasure
from trimtab.api import problems
from trimtab.api.adapters import routes as adapters
from trimtab.api.comparisons import routes as comparisons
from trimtab.api.comparisons import sampled
from trimtab.api.conversations import routes as conversations
from trimtab.api.deployments import routes as deployment_routes
from trimtab.api.evals import routes as evals
from trimtab.api.people import erasures
from trimtab.api.people import routes as people
from trimtab.api.recipes import routes as recipes
from trimtab.api.releases import routes as releases
from trimtab.api.runs import routes as run_routes
from trimtab.api.status import routes as status
from trimtab.api.training_data import exports, imports, removals
from trimtab.api.training_data import routes as training_data
from trimtab.api.usage import routes as usage
from trimtab.background import LongWork
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings
from trimtab.loop import Loop
from trimtab.platform import Platform
from trimtab.runs.schedule import Scheduler
from trimtab.serving import Serving, gateway_limits, model_of
from trimtab.start_run import start_run
from trimtab.ui_mount import Screens
from trimtab.web import login
from trimtab.web.cross_origin import CrossOrigin
from trimtab.web.origin_check import SameMachineOnly

MAX_API_BODY = 64 * 2**20
"""Bytes that a compressed body of `/api` may have when it is decompressed; files that are imported are not bounded."""
log = logging.getLogger(__name__)


def build_platform(settings: Settings, url: str) -> Platform:
    """Opens the store and constructs every part; nothing runs yet. Raises StoreError and its kinds."""
    paths = DataPaths(settings.data.absolute())
    paths.make()
    db = Store.open(paths.store, memory=settings.store.memory)
    paths.clear_scratch()  # after the store: whoever owns it is the one platform here
    db.second_votes = settings.rank.second_votes
    if settings.privacy.redact:
        db.redact = redactor(settings.privacy.redact, settings.privacy.region)
    for name, deployment in settings.deployments.items():
        deployments.ensure(
            db, name, deployment.base, system_prompt=deployment.system_prompt, sampling=deployment.sampling
        )
    specs = engine_specs(settings, paths)
    key = secrets.token_urlsafe(24)
    operator = Principal(name="operator", roles=frozenset({"chat", "rater", "ops"}), via="local key")
    authenticator = Authenticator(
        db,
        False if settings.server.require_key else None,
        local_keys={key: operator},
        exposed=not is_loopback(settings.server.host),
    )
    canary = settings.canary

    async def alarm(target: Target, why: str) -> None:
        assert target.deployment is not None
        assert target.release_id is not None
        await loop.withdraw_canary(target.deployment, target.release_id, f"alarm: {why}")

    options = ServingOptions(
        gateway_limits(settings),
        CanaryPolicy(canary.first_token_s, canary.max_failed, canary.min_requests, canary.window_s),
        canary.shadow,
        settings.rank.sources,
    )
    parts = build_serving(
        db, EnginePool(specs, paths.root), authenticator, paths.adapters, options, on_alarm=alarm
    )
    serving = Serving(settings, paths, parts.pool, parts.reconciler)
    long_work = LongWork(db)
    loop = Loop(db, serving, paths, settings, long_work, lambda: ChatApi(url, key=key))

    async def new_pairs() -> int:
        return await asyncio.to_thread(pairs.count_new, db, settings.schedule.deployment)

    async def active() -> bool:
        return bool(await asyncio.to_thread(runs.under_way, db))

    async def start(reason: str) -> None:
        plan = settings.schedule
        await start_run(
            db,
            loop,
            method=plan.method,
            deployment=plan.deployment,
            qlora=plan.qlora,
            params=dict(plan.params),
            rollout=plan.rollout,
            gate="enforce",
            requested_by=f"schedule: {reason}",
        )

    scheduler = Scheduler(settings.schedule, new_pairs=new_pairs, active=active, start=start)
    return Platform(
        settings=settings,
        paths=paths,
        db=db,
        serving=serving,
        authenticator=authenticator,
        gateway=parts.gateway,
        parts=parts,
        recorder=parts.recorder,
        usage=parts.usage_writer,
        loop=loop,
        long_work=long_work,
        scheduler=scheduler,
        screens=Screens(url),
        url=url,
        key=key,
        started_at=datetime.now(UTC),
    )


def engine_specs(settings: Settings, paths: DataPaths) -> list[EngineSpec]:
    """One specification a replica."""
    specs = []
    for name, engine in settings.engines.items():
        fields = engine.model_dump(exclude={"model", "replicas"}, exclude_none=True)
        model = str(model_of(settings, paths, engine.base))
        names = [name] if engine.replicas == 1 else [f"{name}-{n}" for n in range(1, engine.replicas + 1)]
        specs += [EngineSpec(name=replica, model=model, **fields) for replica in names]
    return specs


@asynccontextmanager
async def running(platform: Platform) -> AsyncIterator[None]:
    """Everything that moves: engines, runs, scheduler. On leaving, all of it is stopped and the store closed."""
    platform.long_work.make_room()
    await asyncio.to_thread(platform.usage.start)
    await platform.serving.reconciler.refresh()
    background = [
        asyncio.create_task(platform.serving.start(), name="engines"),
        asyncio.create_task(platform.serving.reconciler.run(), name="reconciler"),
        asyncio.create_task(platform.serving.prune_hourly(platform.db), name="pruning"),
        asyncio.create_task(platform.scheduler.run(), name="scheduler"),
        asyncio.create_task(platform.screens.run(), name="screens"),
        asyncio.create_task(platform.loop.keep_warm(), name="warm worker"),
        asyncio.create_task(platform.loop.watch_canaries(), name="canaries"),
    ]
    if not platform.db.swept:
        background.append(asyncio.create_task(_look_for_damage(platform), name="reading the store"))
    await platform.loop.start()
    await asyncio.to_thread(erasure.sweep, platform.db, platform.paths)
    try:
        yield
    finally:
        for task in background:  # first, so that nothing starts another run or worker
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await platform.loop.close()
        platform.long_work.close()
        await platform.parts.aclose()
        with contextlib.suppress(FileNotFoundError):
            platform.paths.platform.unlink()
        platform.db.close()


async def _look_for_damage(platform: Platform) -> None:
    """Reads a store that was too large to be read before the start, while engines load; damage stops the platform."""
    try:
        await asyncio.to_thread(platform.db.sweep)
    except StoreDamaged as error:
        log.error("%s", error)
        platform.damage = error
        platform.stop()


def api_router() -> APIRouter:
    """The operations API, `/api`."""
    api = APIRouter(prefix="/api")
    for module in (
        status,
        conversations,
        comparisons,
        sampled,
        training_data,
        removals,
        imports,
        exports,
        erasures,
        run_routes,
        recipes,
        releases,
        deployment_routes,
        adapters,
        evals,
        people,
        usage,
    ):
        api.include_router(module.router)
    return api


def _nothing(request: Request) -> Response:
    """An address of the API that does not exist: without this the UI, which is mounted at `/`, would answer."""
    return problems.problem(404, f"there is no {request.url.path}; /api/docs lists what there is")


def build_app(platform: Platform) -> FastAPI:
    """The ASGI app: gateway (`/v1`), operations API (`/api`), metrics, sign-in and the UI (`/`)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(platform):
            yield

    app = FastAPIOffline(
        title="Trimtab",
        version=__version__,
        lifespan=lifespan,
        docs_url="/api/docs",
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.platform = platform
    problems.install(app)
    app.include_router(status.probes)
    app.include_router(api_router())
    app.add_route("/api/{rest:path}", _nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    app.router.routes.extend([*platform.parts.routes(), *login.ROUTES])
    app.mount("/", platform.screens)
    app.add_middleware(login.SignInFirst, platform=platform)
    app.add_middleware(
        CompressedBodies, prefix="/api/", but="/api/imports/", limit=MAX_API_BODY, refuse=problems.refuse
    )
    app.add_middleware(HotPath, gateway=platform.gateway)
    origins = platform.settings.server.cors_origins
    if origins:
        app.add_middleware(CrossOrigin, origins=origins)
    app.add_middleware(
        SameMachineOnly,
        active=lambda: platform.authenticator.single_user,
        also=platform.settings.server.allowed_hosts,
        origins=origins,
    )
    return app
