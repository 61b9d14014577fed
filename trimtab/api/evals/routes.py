"""Evaluations: measure a release, alone or against another."""

from __future__ import annotations

from fastapi import APIRouter

from store.rollout import evaluations, releases
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.deployments.routes import release_names
from trimtab.api.evals.models import EvalRequest, EvalView
from trimtab.api.views import eval_view
from trimtab.background import call_store

router = APIRouter(prefix="/evals", tags=["evaluations"])


@router.post("", status_code=202)
async def create(body: EvalRequest, platform: ThePlatform, principal: Operator) -> EvalView:
    """Queues an evaluation over the newest held-out data of the release's deployment."""
    release = await call_store(platform.db, releases.get, body.release)
    against = await call_store(platform.db, releases.get, body.against) if body.against else None
    evaluation = await platform.evaluations.submit(release, against, body.suite, principal.name)
    return eval_view(evaluation, await release_names(platform))


@router.get("")
async def list_evals(
    platform: ThePlatform, principal: Operator, release: str | None = None
) -> list[EvalView]:
    """Evaluations, newest first."""
    names = await release_names(platform)
    return [
        eval_view(found, names)
        for found in await call_store(platform.db, evaluations.list_all, release=release)
    ]


@router.get("/{evaluation_id}")
async def get(evaluation_id: str, platform: ThePlatform, principal: Operator) -> EvalView:
    """One evaluation and its report."""
    return eval_view(
        await call_store(platform.db, evaluations.get, evaluation_id), await release_names(platform)
    )
