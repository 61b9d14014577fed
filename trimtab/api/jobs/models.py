"""Jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from store.jobs.jobs import Job, JobState
from trimtab.api.base import View
from trimtab.jobs.jobs import Jobs


class JobProgress(View):
    """How far a job under way is, in steps of its own, and about how long it still takes; null: unknown."""

    done: int
    total: int
    doing: str
    seconds_left: float | None


class JobView(View):
    """One long task: what it was asked, how far it is while it runs, and what it found once it is done."""

    id: str
    kind: str
    state: JobState
    params: dict[str, Any]
    progress: JobProgress | None = None
    result: dict[str, Any] | None = None
    error: str | None = Field(None, description="why it failed or was cancelled")
    requested_by: str | None = None
    created_at: datetime
    updated_at: datetime


def job_view(job: Job, jobs: Jobs) -> JobView:
    """Return one job."""
    at = jobs.progress.get(job.id)
    fields = job.to_json() | {
        "error": (job.error or {}).get("message"),
        "progress": None if at is None else at.to_json(),
    }
    return JobView(**fields)
