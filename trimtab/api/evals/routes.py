"""Evaluations: measure a release, alone or against another."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from store.rollout import evaluation_items, evaluations, releases
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.deployments.routes import release_names
from trimtab.api.evals import reports
from trimtab.api.evals.items import item_view
from trimtab.api.evals.models import EvalItemView, EvalProgress, EvalRequest, EvalView
from trimtab.api.views import eval_view
from trimtab.background import call_store

router = APIRouter(prefix="/evals", tags=["evaluations"])


@router.post("", status_code=202)
async def create(body: EvalRequest, platform: ThePlatform, principal: Operator) -> EvalView:
    """Queue an evaluation over the newest held-out data of the release's deployment."""
    release = await call_store(platform.db, releases.get, body.release)
    against = await call_store(platform.db, releases.get, body.against) if body.against else None
    evaluation = await platform.evaluations.submit(release, against, body.suite, principal.name)
    return eval_view(evaluation, await release_names(platform))


@router.get("")
async def list_evals(
    platform: ThePlatform, principal: Operator, release: str | None = None
) -> list[EvalView]:
    """List evaluations, newest first."""
    names = await release_names(platform)
    return [
        eval_view(found, names)
        for found in await call_store(platform.db, evaluations.list_all, release=release)
    ]


@router.get("/{evaluation_id}")
async def get(evaluation_id: str, platform: ThePlatform, principal: Operator) -> EvalView:
    """Return one evaluation, its report, and how far it is while it runs."""
    found = await call_store(platform.db, evaluations.get, evaluation_id)
    view = eval_view(found, await release_names(platform))
    progress = platform.evaluations.progress.get(evaluation_id)
    return view if progress is None else view.model_copy(update={"progress": EvalProgress(**progress)})


@router.get("/{evaluation_id}/items")
async def items(
    evaluation_id: str,
    platform: ThePlatform,
    principal: Operator,
    response: Response,
    measure: Literal["heldout", "answer", "instruction", "win", "judge", "judge_vote", "text", "kl"]
    | None = None,
    side: Literal["release", "against", "anchor"] | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int, Query(ge=0)] = 0,
) -> list[EvalItemView]:
    """List what an evaluation's figures are computed from, in order; the `Link` header leads to the next page."""
    found = await call_store(
        platform.db, evaluation_items.list_page, evaluation_id, measure, side, after, limit
    )
    if len(found) == limit:
        asked = {"limit": limit, "after": found[-1]["seq"], "measure": measure, "side": side}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        response.headers["Link"] = f'</api/evals/{evaluation_id}/items?{query}>; rel="next"'
    return [item_view(row) for row in found]


router.include_router(reports.router)
