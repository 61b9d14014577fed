"""Runs jobs: submit, resume, cancel, and continue after a restart.

What a kind of job does is its work: an async function of a `JobContext` that returns the result. It may be called again
after it was cut short at any point, and goes on after the parts that it kept. Jobs, runs and evaluations take turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from store.db.database import Store
from store.errors import Invalid
from store.jobs import job_parts, jobs
from store.jobs.job_parts import Part
from store.jobs.jobs import JOB_RESUMABLE, JOB_UNDER_WAY, Job
from trimtab.background import call_store
from trimtab.errors import error_facts
from trimtab.jobs.job_context import JobContext, Progress
from trimtab.runs.task_queue import TaskQueue

log = logging.getLogger(__name__)

Work = Callable[[JobContext], Awaitable[dict[str, Any]]]
"""Does a job and returns its result."""

DATA_ERASED = {
    "kind": "data_erased",
    "message": "a person whose words it worked on was erased; resume it, and it goes on without them",
}
"""The error of a job that an erasure ends."""


class Jobs:
    """Runs jobs of the given kinds. `progress` holds how far each job under way is, by id.

    A platform that stops leaves each job in its state, and `start` continues from there.
    """

    def __init__(self, db: Store, queue: TaskQueue, kinds: Mapping[str, Work]) -> None:
        self.db, self.queue, self.kinds = db, queue, kinds
        self.progress: dict[str, Progress] = {}
        self._cancelled: dict[str, dict[str, Any] | None] = {}  # job id -> the error that its record will get

    async def start(self) -> None:
        """Continue every job that an earlier platform left unfinished, oldest first."""
        for job in await call_store(self.db, jobs.under_way):
            if job.kind in self.kinds:
                log.info("continuing %s", job.id)
                self._queue(job)

    async def submit(
        self, kind: str, params: Mapping[str, Any], requested_by: str | None, parts: Iterable[Part] = ()
    ) -> Job:
        """Queue a job; the newest one of the same kind and parameters goes on instead, unless it is done.

        `parts` are kept with a new job, for what it works on, such as prompts; name their hash in `params`.
        """
        if kind not in self.kinds:
            raise Invalid("kind", kind, self.kinds)
        job, is_new = await call_store(self.db, _find_or_create, kind, params, requested_by, list(parts))
        if not is_new:
            return await self.resume(job.id)
        self._queue(job)
        return job

    async def resume(self, job_id: str) -> Job:
        """Continue a failed or cancelled job after what it has done; any other stays as it is. Raises NotFound."""
        job = await call_store(self.db, jobs.get, job_id)
        if job.state in JOB_RESUMABLE and job_id not in self.queue:
            job = await call_store(self.db, jobs.move, job_id, "queued")
            self._queue(job)
        return job

    async def cancel(self, job_id: str, error: dict[str, Any] | None = None) -> Job:
        """End a job within seconds, keeping what it has done; `error` is recorded with it. Raises NotFound."""
        await call_store(self.db, jobs.get, job_id)
        self._cancelled[job_id] = error
        await self.queue.cancel(job_id)
        self._cancelled.pop(job_id, None)  # another call may have cancelled it at the same time
        job = await call_store(self.db, jobs.get, job_id)
        if job.state in JOB_UNDER_WAY:
            job = await call_store(self.db, jobs.move, job_id, "cancelled", error=error)
        return job

    async def cancel_erased(self, job_ids: Iterable[str]) -> list[str]:
        """Cancel those of the jobs that are under way, since data that they hold was erased; return which."""
        stopped = []
        for job_id in job_ids:
            job = await call_store(self.db, jobs.get, job_id)
            if job.state in JOB_UNDER_WAY and (await self.cancel(job_id, DATA_ERASED)).state == "cancelled":
                stopped.append(job_id)
        return stopped

    def _queue(self, job: Job) -> None:
        self.queue.submit(job.id, partial(self._drive, job.id))

    async def _drive(self, job_id: str) -> None:
        """Do one job and record how it ended."""
        job = await call_store(self.db, jobs.move, job_id, "running")
        try:
            result = await self._work(job)
        except asyncio.CancelledError:
            if job_id in self._cancelled:
                error = self._cancelled[job_id]
                await call_store(self.db, jobs.move, job_id, "cancelled", error=error)
            raise
        except Exception as error:
            log.exception("%s failed", job_id)
            await call_store(self.db, jobs.move, job_id, "failed", error=error_facts(error))
        else:
            await call_store(self.db, jobs.move, job_id, "done", result=result)
            log.info("%s is done", job_id)

    async def _work(self, job: Job) -> dict[str, Any]:
        """Do a job's work; its progress is gone before its end is recorded."""
        try:
            return await self.kinds[job.kind](
                JobContext(self.db, job, partial(self.progress.__setitem__, job.id))
            )
        finally:
            self.progress.pop(job.id, None)


def _find_or_create(
    db: Store, kind: str, params: Mapping[str, Any], requested_by: str | None, parts: list[Part]
) -> tuple[Job, bool]:
    """Return the unfinished job of these parameters, else a new one with its parts; and whether it is new."""
    with db.atomic():
        known = jobs.unfinished(db, kind, params)
        if known is not None:
            return known, False
        job = jobs.create(db, kind, params, requested_by)
        job_parts.keep(db, job.id, parts)
    return job, True
