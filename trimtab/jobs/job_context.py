"""What a job works with: its parameters, what it has done so far, and where it says how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from store.db.database import Store
from store.jobs import job_parts
from store.jobs.job_parts import Part
from store.jobs.jobs import Job
from trimtab.background import call_store


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `done` of `total` steps, what it does now, and about how long it still takes (None: unknown)."""

    done: int = 0
    total: int = 0
    doing: str = ""
    seconds_left: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


class JobContext:
    """The side of a job that its work sees; `report` takes each `Progress`."""

    def __init__(self, db: Store, job: Job, report: Callable[[Progress], None]) -> None:
        self.db, self.job, self.params = db, job, job.params
        self._report = report
        self._doing: str | None = None
        self._first, self._began = 0, 0.0

    def progress(self, done: int, total: int, doing: str = "") -> None:
        """Say how far the job is; steps done before it was resumed do not count in the time left.

        Time is measured anew whenever `doing` changes.
        """
        if doing != self._doing:
            self._doing, self._first, self._began = doing, done, time.monotonic()
        here, left = done - self._first, None
        if here > 0:
            left = round((time.monotonic() - self._began) / here * max(0, total - done), 1)
        self._report(Progress(done, total, doing, left))

    async def kept(self, prefix: str = "") -> dict[str, Any]:
        """Return what the job has done so far, by key."""
        return await call_store(self.db, job_parts.kept, self.job.id, prefix)

    async def keep(self, *parts: Part) -> None:
        """Keep what was done, in one transaction, so that a job that is resumed goes on after it."""
        await call_store(self.db, job_parts.keep, self.job.id, parts)

    async def drop(self, prefix: str = "") -> None:
        """Delete what is not needed any more."""
        await call_store(self.db, job_parts.drop, self.job.id, prefix)
