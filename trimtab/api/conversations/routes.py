"""Conversations, thumbs, and prompts to rank."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request

from serve.auth import Principal
from store.accounts.owners import owner_of
from store.conversations import conversations, stored_conversations
from store.errors import NotFound
from store.feedback import rating_queue
from store.values import Message
from trimtab import draws
from trimtab.api.access import Chatter, Rater, ThePlatform
from trimtab.api.comparisons.routes import can_be_compared
from trimtab.api.conversations.models import LikeRequest
from trimtab.api.conversations.own_list import owner_of_caller, with_end
from trimtab.api.deployments.routes import release_names
from trimtab.api.people.shares import speaker_of_request
from trimtab.background import call_store
from trimtab.platform import Platform
from trimtab.sample_prompts import SAMPLE_PROMPTS

router = APIRouter(tags=["conversations"])
T = TypeVar("T")

_RECORDED_S = 2.0
"""How long a thumb waits for its answer to be recorded, seconds."""

DRAWN_FROM = 300
"""How many of the newest prompts one is drawn from."""


def readable_by(principal: Principal) -> str | None:
    """Return the owner whose conversations the caller may read, None for everybody's."""
    if "ops" in principal.roles:
        return None
    return owner_of(principal.user, principal.key_id)


@router.get("/conversations")
async def list_conversations(
    platform: ThePlatform,
    principal: Chatter,
    limit: int = 50,
    source: Annotated[list[str] | None, Query(max_length=20)] = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    mine: bool = False,
    deleted: bool = False,
) -> list[dict[str, Any]]:
    """List the caller's conversations, newest first; an operator sees everybody's.

    Pinned ones come before the others. `source` (several times) picks some, `search` those with a text in their name or
    one of their messages, in upper or lower case. `mine` leaves out those of others for an operator too; `deleted` lists
    those that can still be restored, in the place of the others.
    """
    found = await call_store(
        platform.db,
        stored_conversations.list_recent,
        limit=min(limit, 500),
        owner=owner_of_caller(principal) if mine or deleted else readable_by(principal),
        sources=source,
        search=search,
        deleted=deleted,
    )
    return [with_end(platform, conversation) for conversation in found]


@router.get("/conversations/{conversation_id}")
async def get_conversation(
    conversation_id: str,
    platform: ThePlatform,
    principal: Chatter,
    message: Annotated[str | None, Query(max_length=200)] = None,
) -> dict[str, Any]:
    """Return one conversation with its messages and the release that gave each answer.

    `message` (its id, or an answer's completion id) picks the branch that goes through it, as it went on last; without
    it, the branch answered last.
    `versions` of a message are the ids of those in its place, oldest first, where there are several.
    """
    found = await call_store(
        platform.db, stored_conversations.get, conversation_id, readable_by(principal), message
    )
    names = await release_names(platform)
    record = found.to_json()
    for shown in record["messages"]:
        shown["release"] = names.get(shown["release"] or "", shown["release"])
    return record


@router.get("/conversations/{conversation_id}/answers")
async def list_answers(
    conversation_id: str, platform: ThePlatform, principal: Chatter
) -> list[dict[str, Any]]:
    """List every answer of a conversation, regenerated ones too, with the question that each answers."""
    found = await call_store(
        platform.db, stored_conversations.answers, conversation_id, readable_by(principal)
    )
    names = await release_names(platform)
    return [row | {"release": names.get(row["release"] or "", row["release"])} for row in found]


@router.post("/messages/{completion_id}/like")
async def like(
    completion_id: str, body: LikeRequest, platform: ThePlatform, principal: Chatter, request: Request
) -> dict[str, Any]:
    """Like or dislike one answer; null withdraws it."""
    began = datetime.now(UTC)
    speaker = speaker_of_request(principal, request)
    said = (completion_id, body.liked, speaker, began, readable_by(principal))
    await when_recorded(platform, conversations.like, *said)
    return {"completion_id": completion_id, "liked": body.liked}


async def when_recorded(platform: Platform, judge: Callable[..., T], *said: Any) -> T:
    """Return what a function of the store makes of an answer, which is recorded a moment after its last token."""
    try:
        return await call_store(platform.db, judge, *said)
    except NotFound:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(platform.recorder.flush(), _RECORDED_S)
        return await call_store(platform.db, judge, *said)


@router.get("/prompts/draw")
async def draw_prompt(platform: ThePlatform, principal: Rater) -> dict[str, Any]:
    """Draw a prompt to rank: one that people asked lately (see `rank.sources`), or a starter while nobody has."""
    rank = platform.settings.rank
    recent = await call_store(platform.db, conversations.recent_prompts, DRAWN_FROM, rank.sources)
    limits = platform.settings.limits.build()
    prompts = [
        prompt for prompt in recent if can_be_compared([message.to_json() for message in prompt], limits)
    ]
    prompts = prompts or [(Message("user", text),) for text in SAMPLE_PROMPTS]
    compared = await call_store(platform.db, rating_queue.compared_prompts)
    shares = draws.shares_of(rank, platform.gateway.table)
    place, draw = draws.draw(prompts, compared, shares, random.Random())
    platform.draws.remember(principal.name, prompts[place], draw)
    return {"messages": [message.to_json() for message in prompts[place]]}
