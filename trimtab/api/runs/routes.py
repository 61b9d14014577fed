"""Training runs: ask for one, follow it, cancel and resume it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from align.errors import ModelError, RecipeError, RunDirectoryError
from align.recipe.plan import Plan, Rows
from align.recipe.recipe import Recipe, names
from align.report import TrainReport
from align.run_directory import RunDirectory
from store.errors import Conflict
from store.rollout import deployments, runs
from store.rollout.run_states import RUN_STATES, RUN_UNDER_WAY
from store.rollout.runs import Run
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.deployments.routes import release_names
from trimtab.api.problems import Problem
from trimtab.api.runs.models import ActivityView, PlanView, RunRequest, RunView
from trimtab.api.views import event_view, run_view
from trimtab.background import call_store
from trimtab.platform import Platform
from trimtab.runs.planning import Machine, make_plan, recipe_of, require_fits
from trimtab.start_run import start_adapter, start_run

router = APIRouter(prefix="/runs", tags=["runs"])

EVENT_POLL_S = 0.5
SETTLED = frozenset(RUN_STATES).difference(RUN_UNDER_WAY)
"""States in which the loop has nothing left to do: an event stream ends there."""


async def _view(platform: Platform, run: Run) -> RunView:
    names = await release_names(platform)
    newest = await call_store(platform.db, runs.latest_metrics, run.id)
    view = run_view(run, names, newest, await call_store(platform.db, runs.transitions, run.id))
    if run.state == "training":
        found = await asyncio.to_thread(RunDirectory(platform.paths.run(run.id)).activity)
        view.activity = ActivityView(**found) if found else None
    if run.snapshot is not None:
        report = await asyncio.to_thread(_report, platform, run.id)
        view.notes, view.left_out = report.notes, report.left_out
        recipe = report.recipe or await asyncio.to_thread(_asked, platform, run.id)
        view.values, view.origin = recipe.get("params", {}), recipe.get("origin", {})
    return view


def _report(platform: Platform, run_id: str) -> TrainReport:
    """Return the worker's report, empty where there is none yet or its file is damaged."""
    with contextlib.suppress(RunDirectoryError):
        return RunDirectory(platform.paths.run(run_id)).train_report() or TrainReport()
    return TrainReport()


def _asked(platform: Platform, run_id: str) -> Mapping[str, Any]:
    """Return the recipe that the worker was given, empty where its file is gone or damaged."""
    with contextlib.suppress(RunDirectoryError, RecipeError):
        return RunDirectory(platform.paths.run(run_id)).spec().recipe
    return {}


@router.post("", status_code=202)
async def create(body: RunRequest, platform: ThePlatform, principal: Operator) -> RunView:
    """Queue a run. 409 when there is nothing to train on, 422 for a parameter that is wrong or a run too large."""
    recipe = await recipe_for(platform, body)
    with contextlib.suppress(
        Conflict, ModelError
    ):  # without rows or a local base there is nothing to plan with
        estimate, _, machine, _ = await _plan(platform, body, recipe)
        require_fits(estimate, machine)
    run = await start_run(
        platform.db,
        platform.runner,
        method=body.method,
        deployment=body.deployment,
        exclude_raters=platform.settings.snapshot.exclude_raters,
        qlora=recipe.qlora,
        params=body.params,
        recipe=body.recipe,
        rollout=body.rollout,
        gate=body.gate,
        start_from=body.start,
        requested_by=principal.name,
    )
    return await _view(platform, run)


@router.post("/plan")
async def plan(body: RunRequest, platform: ThePlatform, principal: Operator) -> PlanView:
    """Estimate what such a run needs: trainable parameters, memory by part, time, whether it fits now. Starts nothing."""
    recipe = await recipe_for(platform, body)
    estimate, rows, machine, recipe = await _plan(platform, body, recipe)
    return PlanView(
        device=machine.device,
        rows=rows.count,
        text=estimate.explain(),
        values=recipe.to_dict()["params"],
        origin=dict(recipe.origin),
        **{**estimate.to_dict(), "advice": "" if estimate.fits else estimate.advice},
    )


async def recipe_for(platform: Platform, body: RunRequest) -> Recipe:
    """Return the complete recipe of a request. Raises NotFound, RecipeError."""
    deployment = await call_store(platform.db, deployments.get, body.deployment)
    if body.recipe is not None and body.recipe not in names():
        raise RecipeError("recipe", body.recipe, "one of " + ", ".join(names()))
    recipe = recipe_of(platform.settings.training, body.method, body.qlora, body.params, body.recipe)
    most = platform.serving.max_lora_rank(deployment.base)
    ranks = [recipe.r, *recipe.rank_pattern.values()]
    if max(ranks) > most:
        raise RecipeError("r", max(ranks), f"at most {most}, the engine's max_lora_rank")
    return recipe


async def _plan(platform: Platform, body: RunRequest, recipe: Recipe) -> tuple[Plan, Rows, Machine, Recipe]:
    deployment = await call_store(platform.db, deployments.get, body.deployment)
    base = platform.serving.model_path(deployment.base)
    replay = platform.settings.snapshot.replay
    start = await call_store(platform.db, start_adapter, body.method, body.deployment, body.start, replay)
    directory = platform.paths.adapters / start if start else None
    device = platform.settings.training.device
    return await call_store(platform.db, make_plan, recipe, body.deployment, base, None, device, directory)


@router.get("")
async def list_runs(platform: ThePlatform, principal: Operator, limit: int = 50) -> list[RunView]:
    """List runs, newest first."""
    return [
        await _view(platform, run)
        for run in await call_store(platform.db, runs.list_all, limit=min(limit, 500))
    ]


@router.get("/{run_id}")
async def get(run_id: str, platform: ThePlatform, principal: Operator) -> RunView:
    """Return one run: state, step, metrics, snapshot, adapter, release, error."""
    return await _view(platform, await call_store(platform.db, runs.get, run_id))


@router.get("/{run_id}/metrics")
async def metrics(run_id: str, platform: ThePlatform, principal: Operator) -> list[dict[str, Any]]:
    """List every step's metrics, oldest first."""
    await call_store(platform.db, runs.get, run_id)
    return await call_store(platform.db, runs.metrics, run_id)


@router.get("/{run_id}/events")
async def events(
    run_id: str, platform: ThePlatform, principal: Operator, after: int = 0
) -> StreamingResponse:
    """State changes and step metrics as server-sent events, from the first; between them what the worker does now, where
    it is not a step (`activity`). Ends when the run has settled.
    """
    await call_store(platform.db, runs.get, run_id)
    return StreamingResponse(
        _events(platform, run_id, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(platform: Platform, run_id: str, after: int) -> AsyncIterator[str]:
    doing: dict[str, Any] | None = None
    while True:
        run = await call_store(platform.db, runs.get, run_id)
        for event in await call_store(platform.db, runs.events, run_id, after=after):
            after = event.seq
            yield f"id: {event.seq}\nevent: {event.kind}\ndata: {json.dumps(event_view(event))}\n\n"
        if run.state == "training":
            now = await asyncio.to_thread(RunDirectory(platform.paths.run(run_id)).activity)
            if now and now != doing and (now["phase"] != "training" or "stage" in now):
                yield f"event: activity\ndata: {json.dumps(now)}\n\n"
            doing = now
        if run.state in SETTLED:
            yield f"event: end\ndata: {json.dumps({'state': run.state})}\n\n"
            return
        await asyncio.sleep(EVENT_POLL_S)


@router.post("/{run_id}/cancel")
async def cancel(run_id: str, platform: ThePlatform, principal: Operator) -> RunView:
    """End a run within seconds; its checkpoints stay, so that it can be resumed."""
    run = await call_store(platform.db, runs.get, run_id)
    if run.state in SETTLED:
        raise Problem(409, f"run {run_id} is {run.state}; only a run that is under way can be cancelled")
    return await _view(platform, await platform.runner.cancel(run_id))


@router.post("/{run_id}/resume", status_code=202)
async def resume(run_id: str, platform: ThePlatform, principal: Operator) -> RunView:
    """Continue a cancelled or failed run from its newest checkpoint."""
    run = await call_store(platform.db, runs.get, run_id)
    if run.state not in ("cancelled", "failed"):
        raise Problem(409, f"run {run_id} is {run.state}; only a cancelled or failed run can be resumed")
    return await _view(platform, await platform.runner.resume(run_id))
