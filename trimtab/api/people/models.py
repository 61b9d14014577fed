"""Users, keys, and who asks."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from store.accounts.roles import Role
from store.accounts.sharing import Share
from trimtab.api.base import Request, View


class KeyRequest(Request):
    """Makes an API key; its secret is shown once, in the answer."""

    name: str = Field(min_length=1, max_length=200)
    roles: list[Role] = Field(default=["chat"], min_length=1)
    user: str | None = Field(default=None, description="the person whom the key speaks for")
    store: bool = Field(default=True, description="whether chat requests made with it are recorded")


class KeyView(View):
    """An API key without its secret."""

    id: str
    name: str
    prefix: str
    roles: list[str]
    created_at: datetime
    revoked_at: datetime | None = None
    user: str | None = Field(default=None, description="the person whom the key speaks for")
    store: bool = Field(default=True, description="whether chat requests made with it are recorded")
    secret: str | None = Field(default=None, description="only in the answer that made the key")
    notice: str | None = Field(default=None, description="only there: what the key does not do")


class UserRequest(Request):
    """Makes a user who can sign in."""

    name: str = Field(min_length=1, max_length=200)
    roles: list[Role] = Field(default=["chat", "rater"], min_length=1)
    password: str = Field(min_length=8, max_length=200)


class UserView(View):
    """A user."""

    id: str
    name: str
    roles: list[str]
    created_at: datetime
    notice: str | None = Field(
        default=None, description="only in the answer that made the user: what changes"
    )


class WhoAmIView(View):
    """Who asks, and what they may do."""

    name: str
    roles: list[str]
    mode: Literal["single-user", "multi-user"]


class ErasureRequest(Request):
    """Asks to erase a person; any spelling of the name that is stored is accepted."""

    name: str = Field(min_length=1, max_length=1000)
    dry_run: bool = Field(default=False, description="say what would go, and change nothing")


class ShareRequest(Request):
    """Says what may be done with the caller's conversations."""

    share: Share | None = Field(
        description="none (nothing), show (raters may see them), train (raters may see them and models may learn from "
        "them); null goes back to the setting `privacy.share`"
    )


class ShareOfRequest(ShareRequest):
    """Says it for a person who told an operator or uses a front end."""

    name: str = Field(min_length=1, max_length=1000)


class ShareView(View):
    """What may be done with somebody's conversations."""

    share: Share
    chosen: bool = Field(description="false where the setting `privacy.share` says so")
    default: Share = Field(description="the setting `privacy.share`")
    name: str | None = Field(
        default=None, description="the person or key; null for the operator on this machine"
    )
