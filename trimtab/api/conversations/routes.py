"""Conversations, thumbs, and prompts to rank."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from store.errors import NotFound
from store.feedback import conversations
from trimtab.api.access import Chatter, Rater, ThePlatform, stored
from trimtab.api.conversations.models import LikeRequest
from trimtab.api.deployments.routes import release_names
from trimtab.sample_prompts import STARTERS

router = APIRouter(tags=["conversations"])


@router.get("/conversations")
async def list_conversations(
    platform: ThePlatform, principal: Chatter, limit: int = 50
) -> list[dict[str, Any]]:
    """The caller's conversations, newest first; an operator sees everybody's."""
    user = None if "ops" in principal.roles else principal.name
    found = await stored(platform, conversations.list_recent, user=user, limit=min(limit, 500))
    return [conversation.to_json() for conversation in found]


@router.get("/conversations/{conversation_id}")
async def get_conversation(conversation_id: str, platform: ThePlatform, principal: Chatter) -> dict[str, Any]:
    """One conversation with its messages and the release that gave each answer."""
    found = await stored(platform, conversations.get, conversation_id)
    if "ops" not in principal.roles and found.user != principal.name:
        raise NotFound("conversation", conversation_id)
    names = await release_names(platform)
    record = found.to_json()
    for message in record["messages"]:
        message["release"] = names.get(message["release"] or "", message["release"])
    return record


@router.post("/messages/{completion_id}/like")
async def like(
    completion_id: str, body: LikeRequest, platform: ThePlatform, principal: Chatter
) -> dict[str, Any]:
    """A thumb on one answer; null takes it back."""
    began = datetime.now(UTC)
    await stored(platform, conversations.like, completion_id, body.liked, principal.name, began)
    return {"completion_id": completion_id, "liked": body.liked}


@router.get("/prompts/draw")
async def draw_prompt(platform: ThePlatform, principal: Rater) -> dict[str, Any]:
    """A prompt to rank: one that people asked lately, or a starter while nobody has."""
    recent = await stored(platform, conversations.recent_prompts, 200)
    prompts = [[message.to_json() for message in prompt] for prompt in recent]
    prompts = prompts or [[{"role": "user", "content": text}] for text in STARTERS]
    return {"messages": random.choice(prompts)}
