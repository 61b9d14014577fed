"""Asking for a run, for whoever asks: the API, the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from store.datasets import new_rows
from store.db.database import Store
from store.errors import Conflict
from store.privacy import erasure
from store.rollout import adapters, deployments, releases, runs
from store.rollout.runs import Run
from trimtab.background import call_store
from trimtab.config.training_sections import ScheduleSettings
from trimtab.runs.runner import Runner

_DATA: dict[str, tuple[str, str]] = {
    "dpo": ("preference pairs", "rank some responses"),
    "sft": ("demonstrations", "write better responses in Rank"),
    "kto": ("likes", "like and dislike some answers in Chat"),
}


async def start_run(
    db: Store,
    runner: Runner,
    *,
    method: str,
    deployment: str,
    exclude_raters: Sequence[str] = (),
    **request: Any,
) -> Run:
    """Queue a run and drive it in the background. Raises Conflict when there is nothing to train on."""
    word, how = _DATA[method]
    if await call_store(db, new_rows.count_all, method, deployment, exclude_raters) == 0:
        raise Conflict(
            f"nothing to train on: there are no {word} for {deployment} yet; {how} or import {word}"
        )
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


class ScheduledRuns:
    """The runs of a schedule: what `trimtab.runs.schedule.Schedule` counts and starts."""

    def __init__(
        self, db: Store, runner: Runner, plan: ScheduleSettings, exclude_raters: Sequence[str] = ()
    ) -> None:
        self.db, self.runner, self.plan, self.exclude_raters = db, runner, plan, exclude_raters

    async def new_rows(self) -> int:
        """Count the rows to train on that arrived since the deployment's last snapshot for the method."""
        plan = self.plan
        return await call_store(
            self.db, new_rows.count_new, plan.method, plan.deployment, self.exclude_raters
        )

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
            exclude_raters=self.exclude_raters,
            qlora=self.plan.qlora,
            params=dict(self.plan.params),
            recipe=self.plan.recipe,
            rollout=self.plan.rollout,
            start_from=self.plan.start,
            gate="enforce",
            requested_by=f"schedule: {reason}",
        )
