"""Build and connect the platform's parts and its ASGI app. Decides and starts nothing; see `trimtab.lifespan`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.requests import Request
from starlette.responses import Response

from align.evaluation.suite import ChatApi
from common.net import is_loopback
from serve.adapters.reconciler import Reconciler
from serve.auth import Authenticator, Principal
from serve.build import ServingOptions, build_serving
from serve.engine.pool import EnginePool
from serve.gateway.content_encoding import CompressedBodies
from serve.gateway.handler import HotPath
from serve.router import Router
from store.accounts.roles import ROLES
from store.db.database import Store
from store.db.redaction import redactor
from store.rollout import deployments
from store.training_data import uploaded_files
from trimtab import __version__
from trimtab.api import problems
from trimtab.api.adapters import routes as adapters
from trimtab.api.comparisons import branches, sampled
from trimtab.api.comparisons import routes as comparisons
from trimtab.api.conversations import feedback, own_list
from trimtab.api.conversations import routes as conversations
from trimtab.api.deployments import routes as deployment_routes
from trimtab.api.evals import routes as evals
from trimtab.api.jobs import routes as job_routes
from trimtab.api.models import routes as models
from trimtab.api.openai import files as openai_files
from trimtab.api.openai import jobs as openai_jobs
from trimtab.api.people import erasures, shares
from trimtab.api.people import routes as people
from trimtab.api.prompts import routes as prompts
from trimtab.api.recipes import routes as recipes
from trimtab.api.releases import blending as release_blending
from trimtab.api.releases import comparison as release_comparison
from trimtab.api.releases import routes as releases
from trimtab.api.runs import distil as distil_routes
from trimtab.api.runs import routes as run_routes
from trimtab.api.status import routes as status
from trimtab.api.status import schedule_preview
from trimtab.api.training_data import curation, exports, imports, removals
from trimtab.api.training_data import make_pairs as make_pairs_routes
from trimtab.api.training_data import routes as training_data
from trimtab.api.usage import routes as usage
from trimtab.api.votes import routes as votes
from trimtab.background import LongWork, call_store
from trimtab.base_models.local import engine_specs
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings
from trimtab.evaluations import Evaluations
from trimtab.jobs import distil_plan, make_pairs_plan
from trimtab.jobs.distil import Distil
from trimtab.jobs.jobs import Jobs, Work
from trimtab.jobs.make_pairs import MakePairs
from trimtab.lifespan import running
from trimtab.loop import Loop
from trimtab.metrics.figures import read_figures
from trimtab.metrics.series import LoopSeries
from trimtab.platform import Platform
from trimtab.rollout.rollout import Rollout
from trimtab.runs.runner import Runner
from trimtab.runs.schedule import Schedule, Scheduler
from trimtab.runs.schedule_moments import ScheduleMoments
from trimtab.runs.task_queue import TaskQueue
from trimtab.runs.workers import Workers
from trimtab.serving import Serving
from trimtab.start_run import ScheduledRuns
from trimtab.ui_mount import Screens
from trimtab.ways.comparison import MODELS, WAYS, Comparison
from trimtab.ways.prompt_search import KIND as PROMPT_SEARCH
from trimtab.ways.prompt_search import PromptSearch
from trimtab.web import login
from trimtab.web.cross_origin import CrossOrigin
from trimtab.web.origin_check import SameMachineOnly
from trimtab.web.request_id import RequestIds

MAX_API_BODY = 64 * 2**20
"""Bytes that a compressed body of `/api` may have when it is decompressed; files that are imported are not bounded."""


def build_platform(settings: Settings, url: str, settings_file: Path | None = None) -> Platform:
    """Open the store and construct every part; nothing runs yet. Raises StoreError and its kinds.

    `settings_file` is read again for base models that are added while the platform runs.
    """
    paths = DataPaths(settings.data.absolute())
    db = _open_store(settings, paths)
    key = secrets.token_urlsafe(24)
    authenticator = _authenticator(settings, db, key)
    pool = EnginePool(engine_specs(settings.engines, paths), paths.root)
    pool.cards.can_sleep = settings.training.make_room == "sleep"
    reconciler = Reconciler(db, Router(), pool, paths.adapters)
    serving = Serving(db, settings, paths, pool, reconciler)
    rollout = Rollout(db, serving, paths.adapters, settings.canary, settings.snapshot.exclude_raters)
    parts = build_serving(db, reconciler, authenticator, _serving_options(settings), rollout.on_alarm)
    long_work, queue = LongWork(db), TaskQueue()
    workers = Workers(settings.training, paths.logs / "waiting-worker.log")

    def chat_api() -> ChatApi:
        """Open a client of this platform's own gateway."""
        return ChatApi(url, key=key, concurrency=8)

    evaluations = Evaluations(
        db,
        serving,
        paths,
        settings.gate,
        queue,
        chat_api,
        settings.limits.max_tokens,
    )
    loop = Loop(db, paths, settings, long_work, serving, workers, evaluations, rollout)
    runner = Runner(db, paths, queue, loop.steps())
    sources = settings.rank.sources
    jobs = Jobs(
        db,
        queue,
        {
            make_pairs_plan.KIND: MakePairs(db, serving, long_work, chat_api, sources),
            distil_plan.KIND: Distil(db, serving, long_work, runner, chat_api, sources),
            **_ways(db, serving, paths, settings, chat_api),
        },
    )
    moments = ScheduleMoments(paths.schedules)
    series = LoopSeries(
        partial(call_store, db, read_figures, settings.canary, settings.snapshot.exclude_raters)
    )
    parts.metrics.add(series, series.refresh)
    return Platform(
        settings=settings,
        paths=paths,
        db=db,
        serving=serving,
        authenticator=authenticator,
        parts=parts,
        gateway=parts.gateway,
        recorder=parts.recorder,
        usage=parts.usage_writer,
        loop=loop,
        runner=runner,
        rollout=rollout,
        evaluations=evaluations,
        jobs=jobs,
        long_work=long_work,
        scheduler=Scheduler(
            Schedule(name, plan, ScheduledRuns(db, runner, plan, settings.snapshot.exclude_raters), moments)
            for name, plan in settings.named_schedules().items()
        ),
        screens=Screens(url),
        url=url,
        key=key,
        started_at=datetime.now(UTC),
        settings_file=settings_file,
    )


def _ways(
    db: Store, serving: Serving, paths: DataPaths, settings: Settings, chat_api: Callable[[], ChatApi]
) -> dict[str, Work]:
    """Return the jobs that search for prompts and compare releases, by kind."""
    compare = Comparison(db, serving, paths, settings.gate, chat_api, settings.limits.max_tokens)
    return {
        PROMPT_SEARCH: PromptSearch(db, serving, paths, chat_api),
        WAYS: compare,
        MODELS: compare,
    }


def _open_store(settings: Settings, paths: DataPaths) -> Store:
    """Open the store of the data directory, with the deployments that the settings name."""
    paths.make()
    db = Store.open(paths.store, memory=settings.store.memory)
    paths.clear_scratch()  # after the store: whoever owns it is the one platform here; so with uploads
    uploaded_files.delete_unfinished(db)
    db.second_votes = settings.rank.second_votes
    db.slight_weight = settings.rank.slight_weight
    db.share = settings.privacy.share
    if settings.privacy.redact:
        db.redact = redactor(settings.privacy.redact, settings.privacy.region)
    for name, deployment in settings.deployments.items():
        deployments.ensure(
            db, name, deployment.base, system_prompt=deployment.system_prompt, sampling=deployment.sampling
        )
    return db


def _authenticator(settings: Settings, db: Store, key: str) -> Authenticator:
    """Return who checks callers; `key` is the operator's, of this boot and this machine."""
    operator = Principal(name="operator", roles=frozenset(ROLES), via="local key")
    return Authenticator(
        db,
        False if settings.server.require_key else None,
        local_keys={key: operator},
        exposed=not is_loopback(settings.server.host),
    )


def _serving_options(settings: Settings) -> ServingOptions:
    """Return how the gateway serves."""
    canary = settings.canary
    return ServingOptions(
        settings.limits.build(), canary.alarm_policy(), canary.shadow, settings.rank.sources
    )


@cache
def api_router() -> APIRouter:
    """Return the operations API, `/api`; its routes find their platform in the app that serves them."""
    api = APIRouter(prefix="/api")
    for module in (
        status,
        schedule_preview,
        conversations,
        own_list,
        feedback,
        votes,
        branches,
        comparisons,
        sampled,
        training_data,
        removals,
        curation,
        make_pairs_routes,
        imports,
        exports,
        erasures,
        run_routes,
        distil_routes,
        recipes,
        release_blending,
        release_comparison,
        prompts,
        releases,
        deployment_routes,
        adapters,
        evals,
        models,
        job_routes,
        people,
        shares,
        usage,
    ):
        api.include_router(module.router)
    return api


@cache
def openai_router() -> APIRouter:
    """Return the part of OpenAI's API, `/v1`, that no engine answers."""
    router = APIRouter()
    for module in (openai_files, openai_jobs):
        router.include_router(module.router)
    return router


def _nothing(request: Request) -> Response:
    """Answer an address of the API that does not exist; otherwise the UI, which is mounted at `/`, would."""
    return problems.problem(404, f"there is no {request.url.path}; /api/docs lists what there is")


def build_app(platform: Platform) -> FastAPI:
    """Return the ASGI app: gateway (`/v1`), operations API (`/api`), metrics, sign-in and the UI (`/`)."""

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
    app.router.routes.extend(api_router().routes)  # including them would build each a second time
    app.add_route("/api/{rest:path}", _nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    app.router.routes.extend(openai_router().routes)  # before the rest of `/v1`
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
    app.add_middleware(RequestIds)
    return app
