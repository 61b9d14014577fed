"""Evaluations: measure a release, alone or against another."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response

from store.db.database import Store
from store.errors import Invalid
from store.rollout import deployments, evaluation_items, evaluations, releases
from store.rollout.evaluations import Evaluation
from store.rollout.releases import Release
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.deployments.routes import release_names
from trimtab.api.evals import reports
from trimtab.api.evals.items import item_view
from trimtab.api.evals.models import EvalItemView, EvalProgress, EvalRequest, EvalView
from trimtab.api.views import eval_view
from trimtab.background import call_store
from trimtab.people_votes import with_votes

router = APIRouter(prefix="/evals", tags=["evaluations"])


@router.post("", status_code=202)
async def create(body: EvalRequest, platform: ThePlatform, principal: Operator) -> EvalView:
    """Queue an evaluation over the newest held-out data of the release's deployment.

    With `people`, pairs of its answers go to Rank, and what people vote joins the report whenever it is read.
    """
    release, against = await call_store(platform.db, _releases, body)
    evaluation = await platform.evaluations.submit(release, against, body.suite, principal.name, body.people)
    return eval_view(evaluation, await release_names(platform))


def _releases(db: Store, body: EvalRequest) -> tuple[Release, Release | None]:
    """Return what is measured, and beside what. Raises `NotFound`, and `Invalid` where people have nothing to compare."""
    known = {row.name: row for row in deployments.list_all(db)} if body.people else {}
    against = releases.get(db, body.against) if body.against else None
    if body.release in known:
        found = known[body.release]
        release = releases.get(db, found.canary or found.stable)
    else:
        release = releases.get(db, body.release)
    if body.people and against is None:
        stable = deployments.get(db, release.deployment).stable
        against = releases.get(db, stable)
    if body.people and against is not None and against.id == release.id:
        raise Invalid("against", against.ref, f"another release than {release.ref}, for people to compare")
    return release, against


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
    found = await call_store(platform.db, _with_votes, evaluation_id)
    view = eval_view(found, await release_names(platform))
    progress = platform.evaluations.progress.get(evaluation_id)
    return view if progress is None else view.model_copy(update={"progress": EvalProgress(**progress)})


def _with_votes(db: Store, evaluation_id: str) -> Evaluation:
    return with_votes(db, evaluations.get(db, evaluation_id))


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
