"""Jobs: long tasks that the platform does in the background."""

from __future__ import annotations

from trimtab_client.resources.base import Resource
from trimtab_client.transport import path
from trimtab_client.types import Job

_Jobs = list[Job]


class Jobs(Resource):
    """Follow, cancel and resume jobs."""

    async def list(self, kind: str | None = None, limit: int | None = None) -> _Jobs:
        """GET /api/jobs, newest first."""
        return [*(await self._http.get("/api/jobs", kind=kind, limit=limit) or ())]

    async def get(self, job: str) -> Job:
        """GET /api/jobs/{id}."""
        found: Job = await self._http.get(path("api", "jobs", job))
        return found

    async def cancel(self, job: str) -> Job:
        """POST /api/jobs/{id}/cancel: end a job within seconds; it can be resumed."""
        cancelled: Job = await self._http.post(path("api", "jobs", job, "cancel"))
        return cancelled

    async def resume(self, job: str) -> Job:
        """POST /api/jobs/{id}/resume: continue after what it has done."""
        resumed: Job = await self._http.post(path("api", "jobs", job, "resume"))
        return resumed
