"""Comparisons and votes: two candidate responses, blind, and a rater's verdict."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from itertools import combinations
from typing import Annotated, Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError

from serve.auth import Principal
from serve.errors import RequestError
from serve.gateway import requests as bodies
from serve.metering.limits import Limits
from store import carried, tool_results, values
from store.accounts import sharing
from store.errors import Invalid, NotFound
from store.feedback import comparisons, prompt_owners, rating_queue
from store.feedback.comparisons import Candidate
from store.rollout import deployments, releases
from trimtab.api.access import Operator, Rater, ThePlatform
from trimtab.api.comparisons.models import (
    ComparisonRequest,
    ComparisonView,
    GoldRequest,
)
from trimtab.api.conversations.models import messages_of
from trimtab.api.deployments.routes import known_deployment, release_names
from trimtab.api.people.shares import owner_of_request, speaker_of_request
from trimtab.api.views import comparison_view
from trimtab.background import call_store
from trimtab.draws import choose_releases, may_choose
from trimtab.platform import Platform
from trimtab.sample_prompts import SAMPLE_PROMPTS

router = APIRouter(prefix="/comparisons", tags=["comparisons"])


@router.post("", status_code=201)
async def create(
    body: ComparisonRequest, platform: ThePlatform, principal: Rater, request: Request
) -> ComparisonView:
    """Sample two to four responses: of named releases, of stable and canary in turn, or of stable alone.

    409 for a prompt that was drawn and that whoever said it no longer shares with raters.
    """
    began = datetime.now(UTC)
    messages = messages_of(body.messages, body.tools)
    owners = [owner_of_request(principal, request)]
    if body.drawn is not False:
        said = await call_store(platform.db, prompt_owners.of_drawn, messages)
        owners = _without_suggested(messages, owners) if said is None else said
    plan = await _plan(body, platform, principal, messages)
    candidates = await sample(platform, principal, messages, plan.names, body.sampling)
    deployment = plan.deployment or await _deployment_of(platform, candidates)
    made = await call_store(
        platform.db,
        comparisons.create,
        messages,
        candidates,
        deployment=deployment,
        source=plan.source,
        asked_by=speaker_of_request(principal, request),
        began=began,
        owners=owners,
        queue=plan.queue,
        propensity=plan.propensity,
    )
    return comparison_view(made, platform.settings)


class _Plan(NamedTuple):
    """What to compare; `deployment` None is that of the releases. `queue` and `propensity`: see `trimtab.draws`."""

    names: list[str]
    deployment: str | None
    source: str
    queue: str | None = None
    propensity: float | None = None


async def _plan(
    body: ComparisonRequest, platform: Platform, principal: Principal, messages: list[Any]
) -> _Plan:
    """Say which releases answer: those that were named, those that the draw chooses, else stable and canary."""
    source = {True: "drawn", False: "typed", None: "rank"}[body.drawn]
    if body.releases:
        if body.answers not in (None, len(body.releases)):
            raise Invalid("answers", body.answers, f"{len(body.releases)}, as many as there are releases")
        # a drawn prompt's votes decide a canary; those between releases that somebody named do not
        return _Plan(body.releases, None, "named" if source == "drawn" else source)
    deployment = body.deployment or next(iter(platform.settings.deployments))
    found = await call_store(platform.db, deployments.get, deployment)
    refs = await release_names(platform)
    count = body.answers or platform.settings.rank.answers
    usual = _cycled([refs[found.stable], refs[found.canary or found.stable]], count)
    drawn = platform.draws.take(principal.name, values.conversation(messages)) if body.drawn else None
    if drawn is None:
        return _Plan(usual, deployment, source)
    table = platform.gateway.table
    free = may_choose(table, deployment)
    if drawn.queue == "releases" and free:
        names, pair = await call_store(
            platform.db, choose_releases, table, deployment, np.random.default_rng()
        )
        return _Plan(_cycled(names, count), deployment, "chosen", drawn.queue, drawn.with_chosen(pair))
    queue = "teach" if drawn.queue == "releases" else drawn.queue
    return _Plan(usual, deployment, source, queue, drawn.with_usual(free))


def _cycled(names: list[str], count: int) -> list[str]:
    """Return `count` names, taking these in turn."""
    return [names[n % len(names)] for n in range(count)]


def _without_suggested(messages: list[dict[str, Any]], owners: list[str]) -> list[str]:
    """Return nobody as the owners of a prompt that the platform itself suggests."""
    suggested = len(messages) == 1 and messages[0]["content"] in SAMPLE_PROMPTS
    return [] if suggested else owners


async def _deployment_of(platform: Platform, candidates: list[Candidate]) -> str | None:
    """Return the deployment that a comparison of named releases belongs to and trains: that of the first release."""
    for candidate in candidates:
        if candidate.release is not None:
            return str((await call_store(platform.db, releases.get, candidate.release)).deployment)
    return None


@router.post("/gold", status_code=201)
async def create_gold(body: GoldRequest, platform: ThePlatform, principal: Operator) -> ComparisonView:
    """Queue a question whose answer is known; its votes measure raters and train nothing."""
    await known_deployment(platform, body.deployment)
    made = await call_store(
        platform.db,
        comparisons.create,
        messages_of(body.messages),
        [Candidate(content=body.good), Candidate(content=body.bad)],
        deployment=body.deployment,
        source="rank",
        votes_wanted=body.votes_wanted,
        gold="first",
    )
    return comparison_view(made, platform.settings)


def can_be_compared(messages: list[dict[str, Any]], limits: Limits) -> bool:
    """Return whether `create` takes these messages, and a rater can answer them: they end with what a person said."""
    if not messages or messages[-1]["role"] != "user":
        return False
    try:
        ComparisonRequest.model_validate({"messages": messages})
        bodies.check_chat({"messages": messages}, limits)
        tool_results.check(values.conversation(messages))
        return True
    except (ValidationError, RequestError, Invalid):
        return False


async def sample(
    platform: Platform, principal: Principal, messages: list[Any], names: list[str], sampling: dict[str, Any]
) -> list[Candidate]:
    """Return one response of each named release; those of the same release are sampled apart."""
    for attempt in range(3):
        requests = []
        for name in names:
            body: dict[str, Any] = {"model": name, "messages": messages, "store": False, "stream": False}
            body |= {"seed": random.getrandbits(31)}
            if names.count(name) > 1:
                # the same release more than once: greedy decoding would answer the same words twice
                body |= {"temperature": 0.8 + 0.2 * attempt}
            requests.append(platform.gateway.complete(principal, body | sampling, sticky=principal.name))
        answers = await asyncio.gather(*requests)
        choices = [answer.body["choices"][0] for answer in answers]
        made = [
            Candidate(
                content=str(choice["message"].get("content") or ""),
                release=answer.target.release_id,
                lane=answer.target.lane,
                sampling=sampling,
                finish_reason=choice.get("finish_reason"),
                carried=carried.of_answer(choice["message"]),
            )
            for answer, choice in zip(answers, choices, strict=True)
        ]
        if not any(one.answers_as(other) for one, other in combinations(made, 2)):
            break
    return made


@router.get("/next", response_model=ComparisonView, responses={204: {"description": "nothing waits"}})
async def next_unvoted(
    platform: ThePlatform,
    principal: Rater,
    request: Request,
    skip: Annotated[list[str] | None, Query(max_length=100)] = None,
) -> Any:
    """Return the oldest comparison that this rater has not judged; 204 when none waits.

    `skip` (several times) leaves some out that the rater does not want to judge now: others get them.
    """
    rater = speaker_of_request(principal, request)
    found = await call_store(platform.db, rating_queue.next_unvoted, rater, skip or ())
    return comparison_view(found, platform.settings) if found else Response(status_code=204)


@router.get("/{comparison_id}")
async def get(
    comparison_id: str, platform: ThePlatform, principal: Rater, request: Request
) -> ComparisonView:
    """Return one comparison, blind; 404 for one that whoever said it does not share with raters."""
    found = await call_store(platform.db, comparisons.get, comparison_id)
    if owner_of_request(principal, request) not in found.owners and not await call_store(
        platform.db, sharing.allow, found.owners, "show"
    ):
        raise NotFound("comparison", comparison_id)
    return comparison_view(found, platform.settings)
