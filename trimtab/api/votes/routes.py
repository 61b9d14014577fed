"""Votes: cast, take back, skip, and look back at one's own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from serve.auth import require
from store.db.database import Store
from store.feedback import comparisons, rater_history, skips, undone_votes
from store.rollout import releases
from trimtab.api.access import Operator, Rater, ThePlatform, TheStore
from trimtab.api.people.shares import owner_of_request, speaker_of_request
from trimtab.api.votes.models import (
    CastVoteView,
    RaterSummaryView,
    SkipRequest,
    SkipView,
    UndoneVoteView,
    VoteRequest,
    VoteView,
)
from trimtab.background import call_store

router = APIRouter(tags=["comparisons"])


@router.post("/comparisons/{comparison_id}/vote")
async def vote(
    comparison_id: str, body: VoteRequest, platform: ThePlatform, principal: Rater, request: Request
) -> VoteView:
    """Record a vote and what follows from it; the answer says which release wrote which."""
    began = datetime.now(UTC)
    recorded = await call_store(
        platform.db,
        comparisons.vote,
        comparison_id,
        body.choice,
        speaker_of_request(principal, request),
        better=body.better,
        tags=tuple(body.tags),
        seconds=body.seconds,
        began=began,
        owner=owner_of_request(principal, request),
        details=body.details(),
        ranking=body.ranking,
    )
    if recorded.deployment is not None:
        await platform.rollout.weigh_votes(recorded.deployment)
    refs = await call_store(platform.db, releases.refs, recorded.releases.values())
    return VoteView(
        id=recorded.id,
        comparison=comparison_id,
        choice=recorded.choice,
        revealed={side: refs.get(release or "") for side, release in recorded.releases.items()},
        pairs=list(recorded.pairs),
        demonstration=recorded.demonstration,
        places=list(recorded.places) if recorded.places else None,
        revised=recorded.revised,
    )


@router.delete("/comparisons/{comparison_id}/vote")
async def undo(
    comparison_id: str, platform: ThePlatform, principal: Rater, request: Request
) -> UndoneVoteView:
    """Take back the caller's own vote: what it alone gave rise to goes, and the comparison waits for votes again."""
    began = datetime.now(UTC)
    undone = await call_store(
        platform.db, undone_votes.undo, comparison_id, speaker_of_request(principal, request), began
    )
    if undone.deployment is not None:
        await platform.rollout.weigh_votes(undone.deployment)
    return UndoneVoteView.model_validate(undone)


@router.post("/comparisons/{comparison_id}/skip", status_code=204)
async def skip(
    comparison_id: str, body: SkipRequest, platform: ThePlatform, principal: Rater, request: Request
) -> None:
    """Leave a comparison undecided, with a reason: it does not come back to the caller, and others get it at once."""
    began = datetime.now(UTC)
    rater = speaker_of_request(principal, request)
    await call_store(platform.db, skips.skip, comparison_id, rater, body.reason, body.comment, began)


@router.get("/votes")
async def list_votes(
    db: TheStore,
    principal: Rater,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    before: str | None = None,
    everybody: bool = False,
    unsafe: bool = False,
) -> list[CastVoteView]:
    """List the caller's votes, newest first, from below `before` (an id); operators may list those of `everybody`.

    `unsafe` leaves only those that call an answer unsafe. Never says which were gold questions.
    """
    if everybody:
        require(principal, "ops")
    rater = None if everybody else speaker_of_request(principal, request)
    rows = await call_store(db, rater_history.list_votes, rater, limit, before, unsafe)
    return [CastVoteView.model_validate(row) for row in rows]


@router.get("/votes/summary")
async def summary(db: TheStore, principal: Rater, request: Request) -> RaterSummaryView:
    """Return the caller's progress: votes, days in a row, gold questions, agreement with other raters."""
    rater = speaker_of_request(principal, request)
    return RaterSummaryView.model_validate(await call_store(db, rater_history.summary, rater))


@router.get("/votes/undone")
async def list_undone(
    db: TheStore,
    principal: Rater,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    everybody: bool = False,
) -> list[UndoneVoteView]:
    """List the votes that the caller took back, newest first; operators may list those of `everybody`."""
    if everybody:
        require(principal, "ops")
    rater = None if everybody else speaker_of_request(principal, request)
    return [UndoneVoteView.model_validate(row) for row in await call_store(db, _undone, rater, limit)]


@router.get("/votes/skipped")
async def list_skipped(
    db: TheStore, principal: Operator, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[SkipView]:
    """List the comparisons that raters left undecided, newest first, with their reasons."""
    return [SkipView.model_validate(row) for row in await call_store(db, skips.list_recent, limit)]


def _undone(db: Store, rater: str | None, limit: int) -> list[dict[str, Any]]:
    """Return votes that were taken back, with the public names of releases."""
    rows = undone_votes.list_recent(db, rater, limit)
    refs = releases.refs(db, [release for row in rows for release in row["releases"]])
    return [row | {"releases": [refs.get(id, id) for id in row["releases"]]} for row in rows]
