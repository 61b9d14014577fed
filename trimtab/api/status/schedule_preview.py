"""What the schedules would start, when and why."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query

from trimtab.api.access import Rater, ThePlatform
from trimtab.api.status.models import PlannedView, SchedulePreviewView
from trimtab.runs.schedule import ROWS, Schedule
from trimtab.runs.schedule_preview import explain, planned_moments

router = APIRouter(prefix="/schedule", tags=["status"])


@router.get("/preview")
async def preview(
    platform: ThePlatform, principal: Rater, count: Annotated[int, Query(ge=1, le=100)] = 5
) -> list[SchedulePreviewView]:
    """Say what each enabled schedule waits for, and the next moments at which it would start a run."""
    return [
        await _preview(schedule, count)
        for schedule in platform.scheduler.schedules
        if schedule.settings.enabled
    ]


async def _preview(schedule: Schedule, count: int) -> SchedulePreviewView:
    settings, now = schedule.settings, datetime.now(UTC)
    rows = await schedule.runs.new_rows()
    moments = islice(planned_moments(schedule.name, settings, now), count)
    return SchedulePreviewView(
        name=schedule.name,
        deployment=settings.deployment,
        method=settings.method,
        timezone=settings.timezone,
        windows=list(settings.windows),
        jitter_minutes=settings.jitter_minutes,
        rows=ROWS[settings.method],
        new_rows=rows,
        says=explain(settings, rows, await schedule.runs.active(), now),
        planned=[PlannedView(moment=found.moment, starts_at=found.starts_at) for found in moments],
    )
