"""Worker processes: started on a run directory (ahead of time, where the settings say so), watched, ended when asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from align.run_directory import EXIT_STOPPED, RunDirectory
from common.gpu_cards import Card, read_cards
from serve.engine.process import GuardedProcess, ProcessOptions
from store.db.database import Store
from store.rollout import runs
from trimtab.config.training_sections import TrainingSettings
from trimtab.runs.worker_device import UnknownDevice, worker_environment

log = logging.getLogger(__name__)

WORKER_NICENESS = 15
"""Niceness: a run takes the processor time that gateway and engines leave, since people wait for those."""

WARM_EVERY_S = 2.0
"""Interval at which the waiting worker is checked, seconds."""

POLL_S = 0.3
STOP_TIMEOUT_S = 20.0
"""How long a worker may take to write its checkpoint before it is killed, seconds."""


class TrainingFailed(Exception):
    """The worker ended with an error; `facts` is `{kind, message, hint?}`, the text what and what to do."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        super().__init__(". ".join(str(facts[part]) for part in ("message", "hint") if facts.get(part)))


class TrainingStopped(Exception):
    """The worker stopped because it was asked to; its checkpoint is whole."""


class Workers:
    """Starts worker processes, and keeps one that has done its imports waiting for the next run.

    The imports (torch, TRL and what they need) take longer than a short run's training.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        waiting_log: Path,
        read: Callable[[], list[Card]] = read_cards,
    ) -> None:
        self.settings, self.waiting_log, self._read = settings, waiting_log, read
        self._waiting: GuardedProcess | None = None
        self._waiting_on: dict[str, str] = {}

    async def warm(self) -> None:
        """Have a worker wait, where the settings want one; one that ended by itself is not tried again before a run."""
        if self.settings.keep_warm and self._waiting is None:
            self.waiting_log.unlink(missing_ok=True)
            # A card that is not there fails the run, which can say so.
            with contextlib.suppress(UnknownDevice):
                self._waiting_on = await self._cards(1)
                self._waiting = await self._start(
                    "--warm", self.waiting_log, self._waiting_on, reads_input=True
                )

    async def start(self, directory: RunDirectory) -> GuardedProcess:
        """Return a worker on this run directory: the one that waits, or a new one. Raises TrainingFailed.

        A worker keeps the cards that it was started with; one that waits on others than now have most room is ended.
        """
        own_log, waiting = directory.path / "worker.log", self._waiting
        processes = int(directory.spec().recipe["params"].get("num_processes") or 1)
        try:
            on = await self._cards(processes)
        except UnknownDevice as error:
            raise TrainingFailed({"kind": "device", "message": str(error)}) from error
        self._waiting = None
        if waiting is None:
            return await self._start(str(directory.path), own_log, on)
        if waiting.returncode is not None:
            log.warning("the waiting worker ended with %s; its log is %s", waiting.returncode, waiting.log)
            return await self._start(str(directory.path), own_log, on)
        if on != self._waiting_on:
            await waiting.stop(grace_s=1.0)
            return await self._start(str(directory.path), own_log, on)
        waiting.send_line(str(directory.path), own_log)
        return waiting

    async def keep_warm(self, busy: Callable[[], bool]) -> None:
        """Have a worker ready for the next run whenever nothing is `busy`, until cancelled."""
        while True:
            if not busy():
                await self.warm()
            await asyncio.sleep(WARM_EVERY_S)

    async def aclose(self) -> None:
        """End the worker that waits."""
        if self._waiting is not None:
            await self._waiting.stop(grace_s=1.0)

    async def _cards(self, processes: int) -> dict[str, str]:
        cards = await asyncio.to_thread(self._read)
        return worker_environment(self.settings.device, cards, processes)

    async def _start(
        self, argument: str, own_log: Path, on: dict[str, str], reads_input: bool = False
    ) -> GuardedProcess:
        return await GuardedProcess.start(
            [sys.executable, "-m", "align.worker", argument],
            ProcessOptions(
                log=own_log, env=self._environment() | on, nice=WORKER_NICENESS, reads_input=reads_input
            ),
        )

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self.settings.worker_threads:
            environment["OMP_NUM_THREADS"] = str(self.settings.worker_threads)
        return environment


class Worker:
    """A worker on one run directory. `execute` returns when `report.json` and `adapter/` are whole."""

    def __init__(self, db: Store, run_id: str, directory: RunDirectory, workers: Workers) -> None:
        self.db, self.run_id, self.directory, self.workers = db, run_id, directory, workers
        self._seen = 0

    async def execute(self) -> None:
        """Train to the end. Raises TrainingFailed or TrainingStopped; a cancelled call stops the worker first."""
        process = await self.workers.start(self.directory)
        waiting = asyncio.ensure_future(process.wait())
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=POLL_S)
                await self._store_progress()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                await process.stop(grace_s=STOP_TIMEOUT_S)
            await asyncio.shield(self._store_progress())
            raise
        finally:
            waiting.cancel()
        status = waiting.result()
        await self._store_progress()
        if status == EXIT_STOPPED:
            raise TrainingStopped
        if status != 0:
            raise TrainingFailed(self._why(status))

    async def _store_progress(self) -> None:
        rows = await asyncio.to_thread(self.directory.progress, self._seen)
        if not rows:
            return
        self._seen = rows[-1]["line"]
        steps = [row for row in rows if row.get("kind") == "step"]
        if steps:
            await asyncio.to_thread(runs.add_metrics, self.db, self.run_id, steps)

    def _why(self, status: int) -> dict[str, Any]:
        error = self.directory.error()
        if error is not None:
            return error
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        hint = (
            "probably out of memory; lower per_device_train_batch_size or max_length. "
            if status in (-9, 137)
            else ""
        )
        return {
            "kind": "worker_ended",
            "message": f"the worker ended {how}",
            "hint": f"{hint}its log is {self.directory.path / 'worker.log'}",
        }
