"""Jobs: list, follow, cancel, resume. Each kind is asked for by a route of its own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from store.jobs import jobs
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.jobs.models import JobView, job_view
from trimtab.background import call_store

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get("")
async def list_jobs(
    platform: ThePlatform,
    principal: Operator,
    kind: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> list[JobView]:
    """List jobs, newest first."""
    found = await call_store(platform.db, jobs.list_all, kind, limit)
    return [job_view(job, platform.jobs) for job in found]


@router.get("/{job_id}")
async def get(job_id: str, platform: ThePlatform, principal: Operator) -> JobView:
    """Return one job, and how far it is while it runs."""
    return job_view(await call_store(platform.db, jobs.get, job_id), platform.jobs)


@router.post("/{job_id}/cancel")
async def cancel(job_id: str, platform: ThePlatform, principal: Operator) -> JobView:
    """End a job within seconds; what it has done is kept, and it can be resumed."""
    return job_view(await platform.jobs.cancel(job_id), platform.jobs)


@router.post("/{job_id}/resume", status_code=202)
async def resume(job_id: str, platform: ThePlatform, principal: Operator) -> JobView:
    """Continue a failed or cancelled job after what it has done."""
    return job_view(await platform.jobs.resume(job_id), platform.jobs)
