"""Drives runs through their states: submit, resume, cancel, and continue after a restart.

What happens in each state is a step; the runner receives them (`trimtab.loop.STEPS`) and imports none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from align.run_directory import RunDirectory
from store.db.database import Store
from store.errors import Conflict
from store.privacy import erasure
from store.rollout import runs
from store.rollout.run_states import RUN_FINAL, RUN_UNDER_WAY
from store.rollout.runs import Run
from trimtab.background import call_store
from trimtab.config.paths import DataPaths
from trimtab.errors import error_facts
from trimtab.runs.task_queue import TaskQueue
from trimtab.runs.workers import TrainingFailed, TrainingStopped

log = logging.getLogger(__name__)

Step = Callable[[Run], Awaitable[Run]]
"""Does the work of one state and returns the run in its next state. May be called again after it was cut short."""

DATA_ERASED = {
    "kind": "data_erased",
    "message": "a person whose words or votes it was to learn from was erased; start a new run, which goes without them",
}
"""The error of a run that an erasure ends."""


class Runner:
    """Takes runs through `steps`, by state, one run at a time.

    A platform that stops leaves each run in its state, and `start` continues from there.
    """

    def __init__(self, db: Store, paths: DataPaths, queue: TaskQueue, steps: Mapping[str, Step]) -> None:
        self.db, self.paths, self.queue, self.steps = db, paths, queue, steps
        self._cancelled: dict[str, dict[str, Any] | None] = {}  # run id -> the error that its record will get

    async def start(self) -> None:
        """Continue every run that an earlier platform left unfinished, oldest first; cancel those with erased data."""
        touched = await call_store(self.db, erasure.runs_touched)
        for run in await call_store(self.db, runs.unfinished):
            if run.state in self.steps and run.id in touched:
                await self._move(run, "cancelled", error=DATA_ERASED)
            elif run.state in self.steps:
                log.info("continuing %s in state %s", run.id, run.state)
                self.submit(run.id)

    def submit(self, run_id: str) -> None:
        """Drive a run in the background; runs take turns."""
        self.queue.submit(run_id, partial(self._drive, run_id))

    async def cancel(self, run_id: str, error: dict[str, Any] | None = None) -> Run:
        """End a run within seconds, keeping its checkpoints, so that it can be resumed; `error` is recorded with it."""
        self._cancelled[run_id] = error
        await self.queue.cancel(run_id)
        run = await call_store(self.db, runs.get, run_id)
        if run.state not in RUN_FINAL:
            run = await self._move(run, "cancelled", error=error)
        self._cancelled.pop(run_id, None)  # another call may have cancelled it at the same time
        return run

    async def cancel_erased(self, run_ids: Iterable[str]) -> list[str]:
        """Cancel those of the runs that are under way, since data that they hold was erased; return which."""
        stopped = []
        for run_id in run_ids:
            run = await call_store(self.db, runs.get, run_id)
            if run.state in RUN_UNDER_WAY and (await self.cancel(run_id, DATA_ERASED)).state == "cancelled":
                stopped.append(run_id)
        return stopped

    async def resume(self, run_id: str) -> Run:
        """Continue a cancelled or failed run from where its files are. Raises Conflict where its data was erased."""
        if run_id in await call_store(self.db, erasure.runs_touched):
            raise Conflict(f"run {run_id} cannot go on: {DATA_ERASED['message']}")
        run = await call_store(self.db, runs.get, run_id)
        if run.state in ("failed", "cancelled") and run_id not in self.queue:
            directory = RunDirectory(self.paths.run(run_id))
            directory.withdraw_stop()
            prepared = (directory.path / "run.toml").exists()
            run = await self._move(run, "training" if prepared else "queued", error=None)
            self.submit(run_id)
        return run

    async def _drive(self, run_id: str) -> None:
        """Take one run through its steps until no step is left, and record how it ended."""
        run = await call_store(self.db, runs.get, run_id)
        try:
            while run.state in self.steps:
                run = await self.steps[run.state](run)
            log.info("%s ended as %s", run.id, run.state)
        except asyncio.CancelledError:
            if run_id in self._cancelled:
                run = await call_store(self.db, runs.get, run_id)
                await self._move(run, "cancelled", error=self._cancelled[run_id])
            raise
        except TrainingStopped:
            await self._move(run, "cancelled")
        except TrainingFailed as error:
            log.error("%s failed: %s", run_id, error)
            await self._move(run, "failed", error=error.facts)
        except Exception as error:
            log.exception("%s failed in state %s", run_id, run.state)
            await self._move(run, "failed", error=error_facts(error))

    async def _move(self, run: Run, state: str, **fields: Any) -> Run:
        return await call_store(self.db, runs.move, run.id, state, **fields)
