"""Adapters on disk: which there are, what each costs, and deleting old ones."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from serve.adapters.prune import needed
from serve.errors import DrainTimeout
from store.accounts import audit
from store.rollout import adapters
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.base import Request, View
from trimtab.api.problems import Problem
from trimtab.background import call_store

router = APIRouter(prefix="/adapters", tags=["adapters"])


class AdapterView(View):
    """One adapter; `parity.cost` says what a token takes with it and without, in milliseconds."""

    id: str
    base: str
    rank: int | None
    bytes: int | None
    run: str | None
    parity: dict[str, Any] | None
    on_disk: bool
    needed: bool = Field(description="a deployment, a rollback or an unfinished run needs it")
    created_at: datetime


class PruneRequest(Request):
    """Which adapters are old; without `keep_last` and `max_age_days`, what the settings say."""

    keep_last: int | None = Field(default=None, ge=0, description="newest adapters to keep")
    max_age_days: float | None = Field(
        default=None, gt=0, le=36_500, description="age from which adapters go"
    )
    dry_run: bool = Field(default=False, description="only say which")


class PruneView(View):
    """The adapters that were deleted, or would be."""

    removed: list[str]
    dry_run: bool


@router.get("")
async def list_adapters(platform: ThePlatform, principal: Operator) -> list[AdapterView]:
    """List every adapter, newest first."""
    spared = await call_store(platform.db, needed)
    return [
        AdapterView(
            id=row.id,
            base=row.base,
            rank=row.rank,
            bytes=row.bytes,
            run=row.run,
            parity=row.parity,
            on_disk=(platform.paths.adapters / row.id).is_dir(),
            needed=row.id in spared,
            created_at=row.created_at,
        )
        for row in await call_store(platform.db, adapters.list_all)
    ]


@router.post("/prune")
async def prune(body: PruneRequest, platform: ThePlatform, principal: Operator) -> PruneView:
    """Delete old adapters, never one that a deployment, a rollback or a run needs."""
    keep, age = body.keep_last, body.max_age_days
    if keep is None and age is None:
        keep, age = platform.settings.adapters.keep_last, platform.settings.adapters.max_age_days
    if keep is None and age is None:
        raise Problem(
            422,
            "which adapters are old is neither in the request nor in the settings",
            field="keep_last",
            accepted="keep_last, max_age_days or both; or the settings adapters.keep_last, adapters.max_age_days",
        )
    try:
        removed = list(await platform.serving.prune(keep, age, body.dry_run))
    except DrainTimeout as error:
        raise Problem(409, f"{error}; try again when they have ended") from error
    if removed and not body.dry_run:
        detail = {"keep_last": keep, "max_age_days": age}
        await call_store(
            platform.db, audit.record, principal.name, "adapters.prune", ", ".join(removed), detail
        )
    return PruneView(removed=removed, dry_run=body.dry_run)
