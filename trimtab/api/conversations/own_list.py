"""What people make of their list of conversations: names, folders, pins, deletion with undo, read-only links."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter

from serve.auth import Principal
from store.accounts.owners import owner_of
from store.conversations import conversation_links, conversation_list
from store.conversations.conversation_links import Link
from store.conversations.conversation_list import UNSET
from store.conversations.stored_conversations import ConversationRecord
from trimtab.api.access import Chatter, ThePlatform
from trimtab.api.conversations.models import ConversationChange
from trimtab.api.deployments.routes import release_names
from trimtab.background import call_store
from trimtab.platform import Platform

router = APIRouter(tags=["conversations"])

SHOWN = ("id", "role", "content", "created_at", "release", "thought_s", "finish_reason")
"""What a link shows of each message, with what it carries (tool calls, reasoning)."""


def owner_of_caller(principal: Principal) -> str:
    """Return whose list it is: an operator's own too, although they may read everybody's."""
    return owner_of(principal.user, principal.key_id)


@router.patch("/conversations/{conversation_id}")
async def change(
    conversation_id: str, body: ConversationChange, platform: ThePlatform, principal: Chatter
) -> dict[str, Any]:
    """Name, file or pin a conversation of one's own; what is left out stays, null takes a name or folder away."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    wanted = {name: given.get(name, UNSET) for name in ("title", "folder", "pinned")}
    owner = owner_of_caller(principal)
    changed = await call_store(platform.db, conversation_list.change, conversation_id, owner, **wanted)
    return changed.to_json()


@router.delete("/conversations/{conversation_id}")
async def delete(conversation_id: str, platform: ThePlatform, principal: Chatter) -> dict[str, Any]:
    """Delete a conversation of one's own: it is out of sight at once, and erased at `erased_at` unless it is restored."""
    owner = owner_of_caller(principal)
    deleted = await call_store(platform.db, conversation_list.delete, conversation_id, owner, principal.name)
    return with_end(platform, deleted)


@router.post("/conversations/{conversation_id}/restore")
async def restore(conversation_id: str, platform: ThePlatform, principal: Chatter) -> dict[str, Any]:
    """Take a deletion back before the conversation is erased; 404 afterwards."""
    owner = owner_of_caller(principal)
    restored = await call_store(
        platform.db, conversation_list.restore, conversation_id, owner, principal.name
    )
    return restored.to_json()


@router.put("/conversations/{conversation_id}/link")
async def share(conversation_id: str, platform: ThePlatform, principal: Chatter) -> dict[str, Any]:
    """Share a read-only link: whoever signs in and has it reads the conversation as it is now. Again: as it is then."""
    owner = owner_of_caller(principal)
    return _link(
        await call_store(platform.db, conversation_links.share, conversation_id, owner, principal.name)
    )


@router.get("/conversations/{conversation_id}/link")
async def get_link(conversation_id: str, platform: ThePlatform, principal: Chatter) -> dict[str, Any] | None:
    """Return the link of a conversation, null without one."""
    owner = owner_of_caller(principal)
    found = await call_store(platform.db, conversation_links.link_of, conversation_id, owner)
    return _link(found) if found else None


@router.delete("/conversations/{conversation_id}/link", status_code=204)
async def revoke(conversation_id: str, platform: ThePlatform, principal: Chatter) -> None:
    """Take the link of a conversation back: it leads nowhere from now on."""
    owner = owner_of_caller(principal)
    await call_store(platform.db, conversation_links.revoke, conversation_id, owner, principal.name)


@router.get("/shared/{token}")
async def read_shared(token: str, platform: ThePlatform, _: Chatter) -> dict[str, Any]:
    """Return the conversation of a link, without the name of its owner and without thumbs."""
    found = await call_store(platform.db, conversation_links.read, token)
    names = await release_names(platform)
    messages = [
        {key: value for key, value in message.to_json().items() if key in SHOWN} | message.carries()
        for message in found.messages
    ]
    for message in messages:
        message["release"] = names.get(message["release"] or "", message["release"])
    return {"title": found.title, "messages": messages}


def with_end(platform: Platform, record: ConversationRecord) -> dict[str, Any]:
    """Return a conversation as JSON, a deleted one with the time from which on it is erased."""
    end: datetime | None = None
    if record.deleted_at is not None:
        end = record.deleted_at + timedelta(minutes=platform.settings.privacy.undo_minutes)
    return record.to_json() | {"erased_at": end.isoformat().replace("+00:00", "Z") if end else None}


def _link(link: Link) -> dict[str, Any]:
    return link.to_json() | {"path": f"/?shared={link.token}"}
