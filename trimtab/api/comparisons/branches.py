"""Comparisons of whole branches: continuations over several turns, judged at the end."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request

from store import values
from store.db.database import Store
from store.errors import Invalid
from store.feedback import branches, comparisons
from store.feedback.comparison import branch
from store.message import completion
from store.rollout import releases
from trimtab.api.access import Rater, ThePlatform
from trimtab.api.comparisons.models import BranchesRequest, ComparisonView
from trimtab.api.conversations.models import messages_of
from trimtab.api.conversations.routes import readable_by
from trimtab.api.deployments.routes import known_deployment
from trimtab.api.people.shares import owner_of_request, speaker_of_request
from trimtab.api.views import comparison_view
from trimtab.background import call_store

router = APIRouter(prefix="/comparisons", tags=["comparisons"])


@router.post("/branches", status_code=201)
async def create_branches(
    body: BranchesRequest, platform: ThePlatform, principal: Rater, request: Request
) -> ComparisonView:
    """Queue continuations over several turns, blind, to be judged at the end; nothing is sampled.

    The vote makes pairs of whole continuations; training learns the assistant's turns alone.
    """
    began = datetime.now(UTC)
    await known_deployment(platform, body.deployment)
    readable = readable_by(principal)
    found = await call_store(platform.db, _branches, body, readable, owner_of_request(principal, request))
    made = await call_store(
        platform.db,
        comparisons.create,
        found.messages,
        found.candidates,
        deployment=body.deployment or found.deployment,
        source="branches",
        asked_by=speaker_of_request(principal, request),
        began=began,
        owners=found.owners,
    )
    return comparison_view(made, platform.settings)


def _branches(db: Store, body: BranchesRequest, readable: str | None, owner: str) -> branches.Branches:
    """Read continuations from either form of a body. Raises `Invalid` for both or neither."""
    if body.completions is not None:
        for field in ("messages", "branches", "releases"):
            if getattr(body, field) is not None:
                raise Invalid(field, "given", "nothing, beside `completions`")
        return branches.of_completions(db, body.completions, readable)
    if body.messages is None or body.branches is None:
        raise Invalid("messages" if body.messages is None else "branches", None, "both, or `completions`")
    names = body.releases or [None] * len(body.branches)
    if len(names) != len(body.branches):
        raise Invalid("releases", len(names), f"{len(body.branches)}, one for each of `branches`")
    given = [releases.get(db, name) if name else None for name in names]
    read = [completion(messages_of(branch), f"branches[{n}]") for n, branch in enumerate(body.branches)]
    candidates = [
        branch(turns, release.id if release else None) for turns, release in zip(read, given, strict=True)
    ]
    known = {release.deployment for release in given if release is not None}
    deployment = known.pop() if len(known) == 1 else None
    return branches.Branches(values.conversation(messages_of(body.messages)), candidates, deployment, [owner])
