"""Users and API keys."""

from __future__ import annotations

from fastapi import APIRouter, Response

from store.accounts import keys, users
from trimtab.api.access import Chatter, Operator, ThePlatform
from trimtab.api.people.models import KeyRequest, KeyView, UserRequest, UserView, WhoAmIView
from trimtab.api.views import key_view
from trimtab.background import call_store
from trimtab.web import access_notice

router = APIRouter(tags=["people"])


@router.get("/whoami")
async def whoami(platform: ThePlatform, principal: Chatter) -> WhoAmIView:
    """Return the caller's name and roles."""
    return WhoAmIView(name=principal.name, roles=sorted(principal.roles), mode=platform.mode)


@router.get("/keys")
async def list_keys(platform: ThePlatform, principal: Operator) -> list[KeyView]:
    """List API keys without their secrets."""
    return [key_view(key) for key in await call_store(platform.db, keys.list_all)]


@router.post("/keys", status_code=201)
async def create_key(body: KeyRequest, platform: ThePlatform, principal: Operator) -> KeyView:
    """Create a key; only this answer holds its secret."""
    key, secret = await call_store(
        platform.db, keys.create, body.name, body.roles, body.user, stores=body.store
    )
    platform.authenticator.drop_cached()
    view = key_view(key, secret)
    view.notice = await call_store(platform.db, access_notice.of_key)
    return view


@router.delete("/keys/{key_id}", status_code=204)
async def revoke_key(key_id: str, platform: ThePlatform, principal: Operator) -> Response:
    """Revoke a key at once."""
    await call_store(platform.db, keys.revoke, key_id)
    platform.authenticator.drop_cached()
    return Response(status_code=204)


@router.get("/users")
async def list_users(platform: ThePlatform, principal: Operator) -> list[UserView]:
    """Everybody who may sign in."""
    return [UserView.model_validate(user) for user in await call_store(platform.db, users.list_all)]


@router.post("/users", status_code=201)
async def create_user(body: UserRequest, platform: ThePlatform, principal: Operator) -> UserView:
    """Add a user."""
    made = await call_store(platform.db, users.create, body.name, body.roles, body.password)
    platform.authenticator.drop_cached()
    view = UserView.model_validate(made)
    view.notice = await call_store(platform.db, access_notice.of_user)
    return view


@router.delete("/users/{name:path}", status_code=204)
async def remove_user(name: str, platform: ThePlatform, principal: Operator) -> Response:
    """Revoke a user's access."""
    await call_store(platform.db, users.remove, name)
    platform.authenticator.drop_cached()
    return Response(status_code=204)
