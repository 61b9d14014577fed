"""Asking for a run, for whoever asks: the API, the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store.db.database import Store
from store.errors import Conflict
from store.privacy import erasure
from store.rollout import adapters, deployments, releases, runs
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
_NEW_ROWS: dict[str, Callable[[Store, str], int]] = {
    "dpo": pairs.count_new,
    "sft": demonstrations.count_new,
    "kto": likes.count_new,
}


async def start_run(db: Store, runner: Runner, *, method: str, deployment: str, **request: Any) -> Run:
    """Queue a run and drive it in the background. Raises Conflict when there is nothing to train on."""
    count, word, how = _DATA[method]
    if await call_store(db, count) == 0:
        raise Conflict(f"nothing to train on: there are no {word} yet; {how} or import {word}")
    run = await call_store(db, runs.create, method=method, deployment=deployment, **request)
    runner.submit(run.id)
    return run


def start_adapter(db: Store, method: str, deployment: str, start_from: str, replay: float) -> str | None:
    """Return the adapter that a run goes on from, None for the base alone.

    `auto` is what stable's adapter was before the method's first run for the deployment, if the snapshot has all of
    the method's rows again (`replay` 1): the same rows on top of what they taught before would push ever further from the
    base. With fewer old rows it is stable's adapter. An adapter that learned from something erased since is left out:
    its nearest clean ancestor, or the base.
    """
    if start_from == "base":
        return None
    adapter = releases.get(db, deployments.get(db, deployment).stable).adapter
    if start_from == "auto" and replay >= 1:
        adapter = adapters.before_method(db, adapter, method, deployment)
    return erasure.clean_start(db, adapter)


def count_new_rows(db: Store, plan: ScheduleSettings) -> int:
    """Count the rows of the schedule's method since its deployment's last snapshot for that method."""
    return _NEW_ROWS[plan.method](db, plan.deployment)


class ScheduledRuns:
    """The runs of a schedule: what `trimtab.runs.schedule.Schedule` counts and starts."""

    def __init__(self, db: Store, runner: Runner, plan: ScheduleSettings) -> None:
        self.db, self.runner, self.plan = db, runner, plan

    async def new_rows(self) -> int:
        """Count the rows of the method since the deployment's last snapshot for it."""
        return await call_store(self.db, count_new_rows, self.plan)

    async def active(self) -> bool:
        """Return whether a run of the deployment is under way; runs of others take turns with it."""
        return bool(await call_store(self.db, runs.under_way, self.plan.deployment))

    async def start(self, reason: str) -> None:
        """Queue a run as the settings say. Raises Conflict when there is nothing to train on."""
        await start_run(
            self.db,
            self.runner,
            method=self.plan.method,
            deployment=self.plan.deployment,
            qlora=self.plan.qlora,
            params=dict(self.plan.params),
            recipe=self.plan.recipe,
            rollout=self.plan.rollout,
            start_from=self.plan.start,
            gate="enforce",
            requested_by=f"schedule: {reason}",
        )
