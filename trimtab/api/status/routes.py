"""The platform at a glance: health, readiness, status, audit, backup."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from store.accounts import audit
from store.datasets import new_rows
from store.db.database import Store
from store.feedback import comparisons
from store.maintenance.backup import write
from store.rollout import deployments, first_steps, runs
from store.rollout.run_states import RUN_UNDER_WAY
from store.training_data import demonstrations, pairs
from trimtab import __version__
from trimtab.api.access import Operator, Rater, ThePlatform
from trimtab.api.base import Request
from trimtab.api.deployments.routes import describe, release_names
from trimtab.api.status.models import (
    AuditOptionsView,
    CardView,
    EngineView,
    FirstStepView,
    ScheduleView,
    StatusView,
)
from trimtab.api.training_data.files import new_path
from trimtab.background import call_store
from trimtab.config.training_sections import ScheduleSettings
from trimtab.config.writing import writing
from trimtab.platform import Platform
from trimtab.runs.schedule import ROWS, next_time

probes = APIRouter(tags=["health"])
router = APIRouter(tags=["status"])


@probes.head("/healthz", include_in_schema=False)
@probes.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer that the platform is running."""
    return {"status": "ok"}


@probes.head("/readyz", include_in_schema=False)
@probes.get("/readyz")
async def readyz(platform: ThePlatform, response: Response) -> JSONResponse:
    """200 once every engine serves, else 503 with what is missing."""
    missing = platform.serving.missing()
    body = {"status": "loading" if missing else "ok", "missing": missing}
    return JSONResponse(body, 503 if missing else 200, headers={"Retry-After": "5"} if missing else None)


@router.get("/status")
async def status(platform: ThePlatform, principal: Rater) -> StatusView:
    """Report engines, deployments, counts, active runs and the schedules."""
    names = await release_names(platform)
    found = await call_store(platform.db, deployments.list_all)
    missing = platform.serving.missing()
    unfinished = await call_store(platform.db, runs.unfinished)
    excluded = platform.settings.snapshot.exclude_raters
    new_pairs = {
        row.name: await call_store(platform.db, new_rows.count_new, "dpo", row.name, excluded)
        for row in found
    }
    schedules = {
        name: await _schedule(platform, name, settings, new_pairs)
        for name, settings in platform.settings.named_schedules().items()
    }
    return StatusView(
        version=__version__,
        mode=platform.mode,
        ready=not missing,
        missing=missing,
        url=platform.url,
        pid=os.getpid(),
        started_at=platform.started_at,
        engines=[EngineView(**row) for row in platform.serving.engine_rows()],
        cards=[CardView(**row) for row in await platform.serving.cards.rows()],
        deployments=[await describe(platform, row, names, principal) for row in found],
        pairs={"total": await call_store(platform.db, pairs.count), "new": sum(new_pairs.values())},
        demonstrations={"total": await call_store(platform.db, demonstrations.count)},
        comparisons=await call_store(platform.db, comparisons.count_by_state),
        active_runs=[run.id for run in unfinished if run.state in RUN_UNDER_WAY],
        schedule=schedules["schedule"],
        schedules=[view for view in schedules.values() if view.enabled],
        first_steps=[
            FirstStepView(**step.to_json()) for step in await call_store(platform.db, first_steps.taken)
        ],
    )


async def _schedule(
    platform: Platform, name: str, settings: ScheduleSettings, new_pairs: Mapping[str, int]
) -> ScheduleView:
    return ScheduleView(
        name=name,
        enabled=settings.enabled,
        cron=settings.cron,
        every_pairs=settings.every_pairs,
        deployment=settings.deployment,
        method=settings.method,
        qlora=settings.qlora,
        recipe=settings.recipe,
        rollout=settings.rollout,
        next_at=next_time(settings, datetime.now(UTC)),
        new_pairs=new_pairs.get(settings.deployment, 0),
        rows=ROWS[settings.method],
        new_rows=await call_store(
            platform.db,
            new_rows.count_new,
            settings.method,
            settings.deployment,
            platform.settings.snapshot.exclude_raters,
        ),
    )


@router.get("/audit")
async def audit_log(
    platform: ThePlatform,
    principal: Operator,
    limit: int = 100,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    text: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[dict[str, Any]]:
    """List who did what, newest first; `action` also takes the beginning of names, `text` searches everything."""
    wanted = audit.Wanted(actor, action, subject, text, since, until)
    found = await call_store(platform.db, audit.list_recent, min(limit, 1000), wanted)
    return [row.to_json() for row in found]


@router.get("/audit/options")
async def audit_options(platform: ThePlatform, principal: Operator) -> AuditOptionsView:
    """List whom and which actions the audit log has, for its filters."""
    return AuditOptionsView(**await call_store(platform.db, audit.known))


class BackupRequest(Request):
    """Where a backup goes, on the platform's machine."""

    file: str = Field(min_length=1)


@router.post("/backup", status_code=201)
async def backup(body: BackupRequest, platform: ThePlatform, principal: Operator) -> dict[str, Any]:
    """Write a whole copy of the store while everything runs."""
    path = await asyncio.to_thread(new_path, body.file)
    return await platform.long_work.run(_backup, path)


def _backup(db: Store, path: Path) -> dict[str, Any]:
    with writing(path):
        return write(db, path).to_json()
