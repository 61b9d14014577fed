"""`/v1/fine_tuning/jobs`: OpenAI's fine-tuning jobs, each a run that trains on the rows of its file alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from align.errors import RunDirectoryError
from align.run_directory import RunDirectory
from serve.errors import UnknownModel
from store.db.database import Store
from store.errors import NotFound
from store.rollout import deployments, fine_tuning, releases, runs
from store.rollout.fine_tuning import FineTuningJob
from store.rollout.releases import Release
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.openai.job_files import check_files
from trimtab.api.openai.job_recipe import params_for
from trimtab.api.openai.job_request import JobRequest
from trimtab.api.openai.job_view import EVENT, KINDS, checkpoint_view, event_view, job_view, status_of_run
from trimtab.api.openai.pages import After, bad_value, missing, page
from trimtab.background import call_store
from trimtab.platform import Platform

router = APIRouter(prefix="/v1/fine_tuning/jobs", include_in_schema=False)  # the document is OpenAI's

METHODS = {kind: method for method, kind in KINDS.items()}
Limit = Annotated[int, Query(ge=1, le=100)]


@router.post("")
async def create(body: JobRequest, platform: ThePlatform, principal: Operator) -> dict[str, Any]:
    """Queue a job: train a deployment or a release on the rows of a file; the new release gets no traffic by itself."""
    release = await call_store(platform.db, _start_release, body.model)
    file = await call_store(platform.db, check_files, body)
    seed, wanted = body.seed_or_new(), body.chosen
    params = await call_store(
        platform.db,
        params_for,
        platform,
        METHODS[body.kind],
        release,
        file,
        {**wanted.params(), "seed": seed},
        body.rate_multiplier,
    )
    job = await call_store(
        platform.db,
        fine_tuning.create,
        model=body.model,
        start_release=release.id,
        training_file=file.id,
        validation_file=body.validation_file,
        hyperparameters=wanted.model_dump(),
        suffix=body.suffix,
        seed=seed,
        metadata=body.metadata,
        method=METHODS[body.kind],
        deployment=release.deployment,
        params=params,
        rollout="none",
        gate="report",
        start_from="stable",
        requested_by=principal.name,
    )
    platform.runner.submit(job.run)
    return (await call_store(platform.db, _views, [job]))[0]


@router.get("")
async def list_jobs(
    request: Request, platform: ThePlatform, principal: Operator, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """List jobs, newest first; `metadata[KEY]=VALUE` filters them."""
    wanted = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query_params.items()
        if name.startswith("metadata[")
    }
    found = await call_store(platform.db, fine_tuning.list_page, limit + 1, after, wanted)
    return page(await call_store(platform.db, _views, found), limit)


@router.get("/{job_id}")
async def retrieve(job_id: str, platform: ThePlatform, principal: Operator) -> dict[str, Any]:
    """Return one job: its status, its error, and the release that it made."""
    return (await call_store(platform.db, _views, [await _job(platform, job_id)]))[0]


@router.post("/{job_id}/cancel")
async def cancel(job_id: str, platform: ThePlatform, principal: Operator) -> dict[str, Any]:
    """End a job that is queued or running."""
    job = await _job(platform, job_id)
    run = await call_store(platform.db, runs.get, job.run)
    status = status_of_run(run.state)
    if status not in ("queued", "running"):
        raise bad_value("id", job_id, f"a job that is queued or running; this one is {status}", "job_ended")
    await platform.runner.cancel(job.run)
    return (await call_store(platform.db, _views, [job]))[0]


@router.get("/{job_id}/events")
async def events(
    job_id: str, platform: ThePlatform, principal: Operator, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """List what happened to a job, newest first: changes of state, and the metrics of steps."""
    job = await _job(platform, job_id)
    number = (after or "").removeprefix(EVENT)
    if after is not None and not (number.isascii() and number.isdigit() and len(number) < 19):
        raise bad_value("after", after, "the id of an event")
    before = int(number) if after is not None else None
    run = await call_store(platform.db, runs.get, job.run)
    found = await call_store(platform.db, runs.events, job.run, 0, limit + 1, before, True)
    return page([event_view(event, run) for event in found], limit)


@router.get("/{job_id}/checkpoints")
async def checkpoints(
    job_id: str, platform: ThePlatform, principal: Operator, after: After = None, limit: Limit = 10
) -> dict[str, Any]:
    """List the releases of a job: the one that it made, once it has succeeded."""
    job = await _job(platform, job_id)
    run = await call_store(platform.db, runs.get, job.run)
    if after is not None or status_of_run(run.state) != "succeeded" or run.release is None:
        return page([], limit)
    names = await call_store(platform.db, releases.refs, [run.release])
    newest = await call_store(platform.db, runs.latest_metrics, run.id)
    heldout = await asyncio.to_thread(_heldout, platform, run.id)
    return page([checkpoint_view(job, run, names[run.release], newest, heldout)], limit)


def _heldout(platform: Platform, run_id: str) -> Mapping[str, Any]:
    """Return what a run measured of its held-out rows after training, empty where its files are gone or damaged."""
    with contextlib.suppress(RunDirectoryError):
        if report := RunDirectory(platform.paths.run(run_id)).train_report():
            return report.heldout.get("after") or {}
    return {}


async def _job(platform: Platform, id: str) -> FineTuningJob:
    try:
        return await call_store(platform.db, fine_tuning.get, id)
    except NotFound:
        raise missing("fine-tuning job", id, "id") from None


def _views(db: Store, jobs: list[FineTuningJob]) -> list[dict[str, Any]]:
    doing = [runs.get(db, job.run) for job in jobs]
    names = releases.refs(db, [run.release for run in doing])
    return [
        job_view(job, run, names.get(run.release or ""), runs.latest_metrics(db, run.id))
        for job, run in zip(jobs, doing, strict=True)
    ]


def _start_release(db: Store, model: str) -> Release:
    """Return the release that a job's `model` names. Raises `UnknownModel`."""
    known = {deployment.name: deployment.stable for deployment in deployments.list_all(db)}
    try:
        return releases.get(db, known.get(model, model if "@" in model else ""))
    except NotFound:
        names = [*known, *(f"{name}@N" for name in known)]
        raise UnknownModel(model[:200], names) from None
