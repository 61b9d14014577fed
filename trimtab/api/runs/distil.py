"""Distil a release's system prompt into an adapter."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from align.pair_making.sampling import MAX_TOKENS
from store.db.database import Store
from store.errors import Invalid
from store.rollout import deployments, releases
from store.rollout.runs import GateMode, Rollout, Start
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.base import Request
from trimtab.api.jobs.models import JobView, job_view
from trimtab.api.runs.models import RunRequest
from trimtab.api.runs.routes import recipe_for
from trimtab.background import call_store
from trimtab.jobs.distil_plan import KIND, DistilPlan, RunWanted
from trimtab.jobs.prompt_parts import Prompts, asked_prompts, heldout_settings
from trimtab.jobs.sampled_answers import max_tokens_of
from trimtab.platform import Platform

router = APIRouter(prefix="/runs/distil", tags=["runs"])


class DistilRequest(Request):
    """Asks for an adapter that answers as a release with a system prompt does, without the prompt."""

    release: str = Field(description="the release whose answers are learned; it has a system prompt")
    deployment: str | None = Field(None, description="deployment that learns; null: the release's own")
    prompts: list[Any] | None = Field(
        None,
        max_length=10_000,
        description="texts, or message lists that end with the user's; null: of traffic",
    )
    traffic: int = Field(300, ge=1, le=10_000, description="how many of the newest prompts of traffic")
    n: Annotated[int, Field(ge=1, le=8)] = 1
    temperature: float | None = Field(None, gt=0, le=2, description="null: the release's own sampling")
    max_tokens: int = Field(MAX_TOKENS, ge=1, le=32_768, description="answers that reach it are not learned")
    qlora: bool = False
    recipe: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    rollout: Rollout = "canary"
    gate: GateMode = "enforce"
    start: Start = "auto"


@router.post("", status_code=202)
async def distil(body: DistilRequest, platform: ThePlatform, principal: Operator) -> JobView:
    """Sample a prompted release and train on its answers without the prompt, as a job; its result names the run."""
    plan, prompts = await call_store(platform.db, _plan, body, platform)
    await recipe_for(
        platform,
        RunRequest(
            method="sft",
            deployment=plan.deployment,
            qlora=body.qlora,
            recipe=body.recipe,
            params=body.params,
        ),
    )
    parts = prompts.parts(heldout_settings(platform.settings.snapshot)) if prompts else []
    job = await platform.jobs.submit(KIND, plan.model_dump(), principal.name, parts)
    return job_view(job, platform.jobs)


def _plan(db: Store, body: DistilRequest, platform: Platform) -> tuple[DistilPlan, Prompts | None]:
    """Check a request, and return what its job is asked and the prompts that it brought. Raises `Invalid`, NotFound."""
    release = releases.get(db, body.release)
    learner = deployments.get(db, body.deployment or release.deployment)
    if not release.system_prompt:
        raise Invalid("release", release.ref, "a release with a system prompt, which is to be learned")
    if learner.base != release.base:
        accepted = f"a deployment of {release.base}, the base model of {release.ref}"
        raise Invalid("deployment", learner.name, accepted)
    source, prompts = asked_prompts(body.prompts, body.traffic)
    settings = heldout_settings(platform.settings.snapshot)
    return DistilPlan(
        deployment=learner.name,
        release=release.id,
        ref=release.ref,
        prompt_hash=hashlib.sha256(release.system_prompt.encode()).hexdigest()[:12],
        prompts=source,
        run=RunWanted(
            qlora=body.qlora,
            recipe=body.recipe,
            params=body.params,
            rollout=body.rollout,
            gate=body.gate,
            start_from=body.start,
        ),
        n=body.n,
        temperature=body.temperature,
        max_tokens=max_tokens_of(release, body.max_tokens, platform.settings.limits.max_tokens),
        seed=settings.seed,
        heldout_fraction=settings.heldout_fraction,
    ), prompts
