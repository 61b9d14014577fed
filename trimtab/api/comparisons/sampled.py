"""Pair mode: of a canary's turns in Chat a share is shown as two answers, canary's and stable's, blind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from pydantic import Field

from serve.gateway import client_headers
from serve.gateway.admission import person_of
from serve.router import Route, share, sticky_key
from store.accounts import names, sharing
from store.accounts.owners import owner_of
from store.feedback import comparisons as stored_comparisons
from store.ids import new_id
from trimtab.api.access import Rater, ThePlatform
from trimtab.api.base import Request, View
from trimtab.api.comparisons.routes import sample
from trimtab.api.conversations.models import MessageBody, messages_of
from trimtab.background import call_store
from trimtab.config.data_sections import Shown

router = APIRouter(prefix="/comparisons", tags=["comparisons"])


class OfferRequest(Request):
    """A turn of a conversation that ends with the person's message."""

    messages: list[MessageBody] = Field(min_length=1, max_length=200)
    deployment: str
    conversation: str | None = Field(default=None, max_length=200)
    user: str | None = Field(
        default=None, max_length=200, description="OpenAI's `user`, as the chat request has it"
    )
    sampling: dict[str, Any] = Field(default_factory=dict)
    tools: list[dict[str, Any]] | None = None


class OfferView(View):
    """Two blind answers (whole where they carry more than text), and the conversation that the chosen one joins."""

    id: str
    a: str
    b: str
    a_message: dict[str, Any] | None = None
    b_message: dict[str, Any] | None = None
    show: Shown = Field("answers", description="as of a comparison")
    conversation: str


def wants_pair(route: Route, deployment: str, sticky: str, turn: str, fraction: float) -> bool:
    """Tell whether a turn is the canary's and falls in the share `fraction` (0 to 1) of those shown as pairs.

    The same conversation and turn always get the same answer. `turn` names the turn within all conversations.
    """
    if route.canary is None or share(deployment, sticky) >= route.weight:
        return False
    return share(f"pair {route.canary.release}", turn) < fraction


@router.post(
    "/offer",
    response_model=OfferView,
    response_model_exclude_none=True,
    status_code=201,
    responses={204: {"description": "this turn is answered by one release as usual"}},
)
async def offer(body: OfferRequest, platform: ThePlatform, principal: Rater, request: HttpRequest) -> Any:
    """Two blind answers where this turn is one of the canary's that are shown as a pair; else 204."""
    began = datetime.now(UTC)
    route = platform.gateway.table.routes.get(body.deployment)
    said = client_headers.read(dict(request.scope["headers"]))
    user = person_of(principal, said.user)
    given = body.conversation or said.conversation
    named = names.spell(body.user) if body.user else None
    sticky = sticky_key(given, named, user, principal.key_id, principal.name)
    conversation = given or new_id("conv")
    turn = f"{conversation} {len(body.messages)}"
    if route is None or not wants_pair(route, body.deployment, sticky, turn, platform.settings.canary.pair):
        return Response(status_code=204)
    owner = owner_of(user, principal.key_id)
    if not await call_store(platform.db, sharing.allow, [owner], "show"):
        return Response(status_code=204)  # other raters would see it, too
    assert route.canary is not None
    messages = messages_of(body.messages, body.tools)
    releases = [route.stable.release, route.canary.release]
    candidates = await sample(platform, principal, messages, releases, body.sampling)
    if candidates[0].answers_as(candidates[1]):
        return Response(status_code=204)  # nothing to choose between
    made = await call_store(
        platform.db,
        stored_comparisons.create,
        messages,
        candidates,
        deployment=body.deployment,
        source="pair",
        asked_by=said.user or principal.name,
        began=began,
        owners=[owner],
    )
    shown = {name: value for name, value in made.blind().items() if name != "messages"}
    return OfferView(**shown, show=platform.settings.rank.show, conversation=conversation)
