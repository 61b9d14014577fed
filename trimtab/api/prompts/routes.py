"""Search for the best system prompt and examples of a deployment."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from align.evaluation.suite_file import Judge, Suite, WinRate, load_suite
from align.prompts.candidates import LONGEST
from store.datasets import snapshots
from store.db.database import Store
from store.rollout import deployments
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.jobs.models import JobView, job_view
from trimtab.api.problems import Problem
from trimtab.api.prompts.models import PromptSearchRequest
from trimtab.api.rule_bodies import read_rules
from trimtab.background import call_store
from trimtab.ways.held_data import newest_snapshot, request_parts
from trimtab.ways.plain_release import plain_release
from trimtab.ways.prompt_search import KIND

router = APIRouter(prefix="/prompts", tags=["prompts"])

MAX_SHOTS = 16


@router.post("/search", status_code=202)
async def search(body: PromptSearchRequest, platform: ThePlatform, principal: Operator) -> JobView:
    """Queue a search; the best prompt becomes a release without traffic. The same search goes on where it was cut short."""
    _check(body)
    await call_store(platform.db, deployments.get, body.deployment)
    snapshot = None
    if body.requests is None:
        snapshot = await call_store(platform.db, newest_snapshot, platform.paths.snapshots, body.deployment)
    score = await call_store(platform.db, _score, body, snapshot)
    plain = await call_store(platform.db, plain_release, body.deployment, principal.name)
    await platform.serving.reconciler.refresh()
    requests, parts = request_parts(body.requests or ())
    params = {
        "deployment": body.deployment,
        "plain": plain.id,
        "snapshot": snapshot,
        "score": score,
        "candidates": body.candidates,
        "built_in": body.built_in,
        "write_with": body.write_with.model_dump() if body.write_with else None,
        "shots": sorted(set(body.shots)),
        "prompts": body.prompts,
        "requests": requests if parts else None,
    }
    return job_view(await platform.jobs.submit(KIND, params, principal.name, parts), platform.jobs)


def _check(body: PromptSearchRequest) -> None:
    """Raise `Problem` for a field whose value the search cannot use."""
    for place, text in enumerate(body.candidates):
        if not text.strip() or len(text) > LONGEST:
            accepted = f"1 to {LONGEST} characters"
            raise Problem(
                422,
                f"candidates: number {place + 1} has {len(text)} characters",
                field="candidates",
                accepted=accepted,
            )
    wrong = [count for count in body.shots if not 0 <= count <= MAX_SHOTS]
    if wrong:
        raise Problem(422, f"shots: {wrong[0]} examples", field="shots", accepted=f"0 to {MAX_SHOTS}")
    if not body.candidates and not body.built_in and body.write_with is None and not any(body.shots):
        raise Problem(
            422,
            "there is nothing to choose among",
            field="candidates",
            accepted="candidates, built_in, write_with or shots",
        )


def _score(db: Store, body: PromptSearchRequest, snapshot: str | None) -> dict[str, Any]:
    """Return what scores the candidates. Raises `Problem` that names the field where the data allows nothing."""
    if body.requests is None and snapshot is None:
        raise Problem(
            422,
            f"{body.deployment} has no snapshot to choose prompts on; one comes with a run",
            field="requests",
            accepted="a list of requests, where there is no snapshot",
        )
    if body.rules is not None:
        return {"rules": read_rules(body.rules)}
    if body.suite is not None:
        return _score_of_suite(load_suite(body.suite))
    if snapshot is None or snapshots.get(db, snapshot).method != "dpo":
        raise Problem(
            422,
            "there are no votes to score prompts by",
            field="rules",
            accepted="rules, or a suite with win_rate or judge",
        )
    return {"votes": True}


def _score_of_suite(suite: Suite) -> dict[str, Any]:
    for kind, name in ((WinRate, "rules"), (Judge, "judge")):
        for part in suite.measurements:
            if isinstance(part, kind):
                return {name: part.model_dump(mode="json")}
    raise Problem(
        422,
        "the suite compares no answers",
        field="suite",
        accepted="a suite with a win_rate or a judge",
    )
