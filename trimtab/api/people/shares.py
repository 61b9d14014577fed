"""What people share of their conversations: with raters, and for training."""

from __future__ import annotations

from fastapi import APIRouter, Request

from serve.auth import Principal
from serve.gateway import client_headers
from serve.gateway.admission import person_of
from store.accounts import names, sharing
from store.accounts.owners import owner_of
from store.accounts.sharing import Share
from store.db.database import Store
from trimtab.api.access import Chatter, Operator, TheStore
from trimtab.api.people.models import ShareOfRequest, ShareRequest, ShareView
from trimtab.background import call_store

router = APIRouter(tags=["lineage and privacy"])


def owner_of_request(principal: Principal, request: Request) -> str:
    """Return whose words a request brings; `X-Trimtab-User` names another person where the caller may."""
    said = client_headers.read(dict(request.scope["headers"]))
    return owner_of(person_of(principal, said.user), principal.key_id)


def speaker_of_request(principal: Principal, request: Request) -> str:
    """Return the name that an opinion is recorded under; `X-Trimtab-User` names another person where the caller may."""
    said = client_headers.read(dict(request.scope["headers"]))
    person_of(principal, said.user)
    return said.user or principal.name


@router.get("/me/share")
async def get_own(db: TheStore, principal: Chatter, request: Request) -> ShareView:
    """Return what may be done with the caller's conversations."""
    return await call_store(db, _view, owner_of_request(principal, request))


@router.put("/me/share")
async def set_own(body: ShareRequest, db: TheStore, principal: Chatter, request: Request) -> ShareView:
    """Say what may be done with the caller's conversations; it holds for earlier ones too, from the next use on."""
    owner = owner_of_request(principal, request)
    return await call_store(db, _choose, owner, body.share, principal.name)


@router.get("/shares")
async def list_shares(db: TheStore, principal: Operator) -> list[ShareView]:
    """List the choices of people and keys; for all others the setting `privacy.share` holds."""
    return await call_store(db, _views)


@router.put("/shares")
async def set_share(body: ShareOfRequest, db: TheStore, principal: Operator) -> ShareView:
    """Say it for a person, such as one whom a front end names in `X-Trimtab-User`."""
    owner = owner_of(names.person_name(body.name), None)
    return await call_store(db, _choose, owner, body.share, principal.name)


def _choose(db: Store, owner: str, share: Share | None, actor: str) -> ShareView:
    sharing.choose(db, owner, share, actor)
    return _view(db, owner)


def _view(db: Store, owner: str) -> ShareView:
    choice = sharing.choice_of(db, owner)
    return ShareView(
        share=choice.share if choice else db.share,
        chosen=choice is not None,
        default=db.share,
        name=owner.partition(" ")[2] or None,
    )


def _views(db: Store) -> list[ShareView]:
    return [_view(db, choice.owner) for choice in sharing.list_all(db)]
