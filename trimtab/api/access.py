"""Who asks, what they may do, and the platform that answers: the dependencies of every route."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from serve.auth import Principal, require
from store.db.database import Store
from trimtab.platform import Platform


def platform_of(request: Request) -> Platform:
    """Return the platform that this app serves."""
    platform: Platform = request.app.state.platform
    return platform


def store_of(platform: Annotated[Platform, Depends(platform_of)]) -> Store:
    """Return the platform's store: all that many routes need."""
    return platform.db


async def _authenticated(request: Request, platform: Annotated[Platform, Depends(platform_of)]) -> Principal:
    host = request.client.host if request.client else ""
    known = platform.authenticator.recall(request.headers, request.cookies)
    if known is not None:
        return known
    with platform.db.guarded():
        return await asyncio.to_thread(
            platform.authenticator.authenticate, request.headers, request.cookies, host
        )


def _with_role(role: str) -> Callable[..., Principal]:
    def check(principal: Annotated[Principal, Depends(_authenticated)]) -> Principal:
        require(principal, role)
        return principal

    return check


ThePlatform = Annotated[Platform, Depends(platform_of)]
TheStore = Annotated[Store, Depends(store_of)]
chat_role, rater_role, ops_role = _with_role("chat"), _with_role("rater"), _with_role("ops")
Chatter = Annotated[Principal, Depends(chat_role)]
Rater = Annotated[Principal, Depends(rater_role)]
Operator = Annotated[Principal, Depends(ops_role)]
