"""One worker process, watched: starts it on a run directory, stores its progress, ends it when asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Any

from align.rundir import RunDirectory
from serve.process import GuardedProcess
from store import runs
from store.database import Store
from trimtab.settings import TrainingSettings

BEHIND_CHAT = 15
"""Niceness: a run takes the processor time that gateway and engines leave, since people wait for those."""

STOPPED = 3
"""The worker's exit status after it was asked to stop and wrote a checkpoint."""

POLL_S = 0.3
GRACE_S = 20.0
"""How long a worker may take to write its checkpoint before it is killed, seconds."""


class TrainingFailed(Exception):
    """The worker ended with an error; `facts` is `{kind, message, hint?}`, the text what and what to do."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        super().__init__(". ".join(str(facts[part]) for part in ("message", "hint") if facts.get(part)))


class TrainingStopped(Exception):
    """The worker stopped because it was asked to; its checkpoint is whole."""


class Worker:
    """A worker on one run directory. `run` returns when `report.json` and `adapter/` are whole."""

    def __init__(self, db: Store, run_id: str, directory: RunDirectory, settings: TrainingSettings) -> None:
        self.db, self.run_id, self.directory, self.settings = db, run_id, directory, settings
        self._seen = 0

    async def run(self) -> None:
        """Trains to the end. Raises TrainingFailed or TrainingStopped; a cancelled call stops the worker first."""
        process = await GuardedProcess.start(
            [sys.executable, "-m", "align.worker", str(self.directory.path)],
            env=self._environment(),
            log=self.directory.path / "worker.log",
            nice=BEHIND_CHAT,
        )
        waiting = asyncio.ensure_future(process.wait())
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=POLL_S)
                await self._store_progress()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                await process.stop(grace_s=GRACE_S)
            await asyncio.shield(self._store_progress())
            raise
        finally:
            waiting.cancel()
        status = waiting.result()
        await self._store_progress()
        if status == STOPPED:
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

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self.settings.worker_threads:
            environment["OMP_NUM_THREADS"] = str(self.settings.worker_threads)
        return environment

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
