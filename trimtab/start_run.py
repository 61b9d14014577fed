"""Asking for a run, for whoever asks: the API, the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store.db.database import Store
from store.errors import Conflict
from store.rollout import runs
from store.rollout.runs import Run
from store.training_data import demonstrations, likes, pairs
from trimtab.background import call_store
from trimtab.config.training_sections import ScheduleSettings
from trimtab.runs.runner import Runner

_DATA: dict[str, tuple[Callable[[Store], int], str, str]] = {
    "dpo": (pairs.count, "preference pairs", "rank some responses"),
    "sft": (demonstrations.count, "demonstrations", "write better responses in Rank"),
    "kto": (lambda db: sum(likes.count(db).values()), "likes", "like and dislike some answers in Chat"),
}


async def start_run(db: Store, runner: Runner, *, method: str, deployment: str, **request: Any) -> Run:
    """Queue a run and drive it in the background. Raises Conflict when there is nothing to train on."""
    count, word, how = _DATA[method]
    if await call_store(db, count) == 0:
        raise Conflict(f"nothing to train on: there are no {word} yet; {how} or import {word}")
    run = await call_store(db, runs.create, method=method, deployment=deployment, **request)
    runner.submit(run.id)
    return run


class ScheduledRuns:
    """The runs of a schedule: what `trimtab.runs.schedule.Scheduler` counts and starts."""

    def __init__(self, db: Store, runner: Runner, plan: ScheduleSettings) -> None:
        self.db, self.runner, self.plan = db, runner, plan

    async def new_pairs(self) -> int:
        """Count the pairs since the deployment's last snapshot."""
        return await call_store(self.db, pairs.count_new, self.plan.deployment)

    async def active(self) -> bool:
        """Return whether any run is under way."""
        return bool(await call_store(self.db, runs.under_way))

    async def start(self, reason: str) -> None:
        """Queue a run as the settings say. Raises Conflict when there is nothing to train on."""
        await start_run(
            self.db,
            self.runner,
            method=self.plan.method,
            deployment=self.plan.deployment,
            qlora=self.plan.qlora,
            params=dict(self.plan.params),
            rollout=self.plan.rollout,
            gate="enforce",
            requested_by=f"schedule: {reason}",
        )
