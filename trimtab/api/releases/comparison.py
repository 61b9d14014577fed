"""Releases and base models compared on one suite."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import Field

from align.evaluation.reports import comparison_page
from align.evaluation.suite_file import load_suite
from align.evaluation.ways import REQUESTS_PER_DAY
from serve.errors import UnknownModel
from store.db.database import Store
from store.errors import Conflict, NotFound
from store.jobs import jobs
from store.jobs.jobs import Job
from store.rollout import release_examples, releases
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.base import Request
from trimtab.api.evals.reports import HEADERS
from trimtab.api.jobs.models import JobView, job_view
from trimtab.api.problems import Problem
from trimtab.api.rule_bodies import read_rules
from trimtab.background import call_store
from trimtab.platform import Platform
from trimtab.ways.comparison import MODELS, WAYS, kind_of, ways_of
from trimtab.ways.held_data import newest_snapshot, request_parts
from trimtab.ways.plain_release import plain_release

router = APIRouter(tags=["comparisons of releases"])


class Compared(Request):
    """What both comparisons take."""

    suite: str = Field("default", description="quick, default, full, or the path of a .toml file")
    rules: dict[str, Any] | None = Field(
        None, description="a win rate by these rules: {rules: [{rule, value}], prefer: shorter | longer}"
    )
    requests: list[str] | None = Field(
        None, min_length=2, max_length=2000, description="requests in place of held-out rows of a snapshot"
    )


class CompareReleasesRequest(Compared):
    """Compares ways of one deployment: the base model, the best prompt, examples, an adapter."""

    deployment: str = "assistant"
    releases: list[str] = Field(
        default_factory=list,
        max_length=8,
        description="releases to compare; default: the newest of each kind. The base model alone is always the baseline",
    )
    requests_per_day: float = Field(
        REQUESTS_PER_DAY, gt=0, description="what the cost of a day is computed with"
    )


class CompareModelsRequest(Compared):
    """Compares base models, deployments or releases; the first one is the baseline."""

    models: list[str] = Field(min_length=2, max_length=16)
    deployment: str | None = Field(
        None, description="whose held-out rows are used; default: that of the first model that is one's"
    )


@router.post("/releases/compare", status_code=202)
async def compare_releases(
    body: CompareReleasesRequest, platform: ThePlatform, principal: Operator
) -> JobView:
    """Queue a comparison; its result has quality, cost, and the cheapest release that passes the gate."""
    rules = await asyncio.to_thread(_check, body)
    models = await call_store(platform.db, _models, body.releases, body.deployment, principal.name)
    await platform.serving.reconciler.refresh()
    more = {"ways": True, "rules": rules, "requests_per_day": body.requests_per_day}
    return await _submit(platform, WAYS, body, models, body.deployment, principal.name, more)


@router.post("/models/compare", status_code=202)
async def compare_models(body: CompareModelsRequest, platform: ThePlatform, principal: Operator) -> JobView:
    """Queue a comparison; its result has quality, speed, memory and licence of each model."""
    rules = await asyncio.to_thread(_check, body)
    models = {name: _pinned(platform, name) for name in dict.fromkeys(body.models)}
    if len(models) < 2:
        raise Problem(422, "models: two different ones are needed", field="models")
    table = platform.serving.reconciler.router.table
    named = [table.resolve(model, "").deployment for model in models.values()]
    deployment = body.deployment or next((name for name in named if name), None)
    more = {"ways": False, "rules": rules, "requests_per_day": None}
    return await _submit(platform, MODELS, body, models, deployment, principal.name, more)


@router.get("/releases/compare/{job_id}/report.html", response_class=HTMLResponse)
async def report(job_id: str, platform: ThePlatform, principal: Operator) -> HTMLResponse:
    """Show a comparison that is done as one page that loads nothing."""
    found = await _done(platform, job_id)
    return HTMLResponse(await asyncio.to_thread(comparison_page.page, found.result or {}), headers=HEADERS)


@router.get("/releases/compare/{job_id}/table")
async def table(job_id: str, platform: ThePlatform, principal: Operator) -> list[dict[str, str]]:
    """Return a comparison that is done as rows of texts, one per release or model."""
    found = await _done(platform, job_id)
    return comparison_page.table(found.result or {})


def _check(body: Compared) -> dict[str, Any] | None:
    """Return the rules, once the suite can be read. Raises `SuiteError` and `Problem`."""
    load_suite(body.suite)
    return None if body.rules is None else read_rules(body.rules)


async def _done(platform: Platform, job_id: str) -> Job:
    found = await call_store(platform.db, jobs.get, job_id)
    if found.kind not in (WAYS, MODELS):
        raise NotFound("comparison", job_id)
    if found.result is None:
        raise Conflict(f"{job_id} has no report: it is {found.state}")
    return found


def _pinned(platform: Platform, name: str) -> str:
    """Return the release that a deployment's name means now; other names as they are. Raises `Problem`."""
    try:
        target = platform.serving.reconciler.router.table.resolve(name, "")
    except UnknownModel as error:
        accepted = ", ".join(platform.serving.reconciler.router.table.names())
        raise Problem(422, f"models: there is no {name!r}", field="models", accepted=accepted) from error
    return target.release


def _models(db: Store, refs: list[str], deployment: str, actor: str) -> dict[str, str]:
    """Return the releases to compare by their kind. The baseline is made where there is none, unless this raises."""
    with db.atomic():
        plain = plain_release(db, deployment, actor)
        models = _named(db, refs, deployment, plain.ref) if refs else ways_of(db, deployment, plain)
        if len(models) < 2:
            raise Problem(
                409,
                f"{deployment} has no release but the base model; `trimtab prompts search` and `trimtab train` make some",
                field="releases",
            )
    return models


def _named(db: Store, refs: list[str], deployment: str, plain: str) -> dict[str, str]:
    """Return the named releases by their kind, behind the baseline; a second one of a kind by its name."""
    quoted = release_examples.counts(db)
    found = {"base": plain}
    for ref in dict.fromkeys(refs):
        release = releases.get(db, ref)
        if release.deployment != deployment:
            raise Problem(
                422,
                f"releases: {ref} is of {release.deployment}",
                field="releases",
                accepted=f"releases of {deployment}",
            )
        if release.ref != plain:
            kind = kind_of(release, quoted)
            found[release.ref if kind in found else kind] = release.ref
    return found


async def _submit(
    platform: Platform,
    kind: str,
    body: Compared,
    models: dict[str, str],
    deployment: str | None,
    actor: str,
    more: dict[str, Any],
) -> JobView:
    snapshot = None
    if body.requests is None and deployment is not None:
        snapshot = await call_store(platform.db, newest_snapshot, platform.paths.snapshots, deployment)
    requests, parts = request_parts(body.requests or ())
    params = {
        "models": models,
        "suite": body.suite,
        "deployment": deployment,
        "snapshot": snapshot,
        "requests": requests if parts else None,
        **more,
    }
    # of what is compared: the same comparison draws the same rows and neutral prompts
    params["seed"] = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]
    return job_view(await platform.jobs.submit(kind, params, actor, parts), platform.jobs)
