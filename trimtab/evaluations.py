"""Evaluations: a suite through the served endpoint, for a run's gate or because an operator asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from align.evaluation.gate import GateDecision, decide
from align.evaluation.heldout_prompts import HeldoutPrompts
from align.evaluation.items import Item
from align.evaluation.suite import ChatApi, run_suite
from align.evaluation.suite_file import load_suite
from serve.metering.limits import max_answer_tokens
from store.datasets import new_rows, snapshots
from store.db.database import Store
from store.errors import Conflict
from store.rollout import deployments, evaluation_items, evaluations, releases, runs
from store.rollout.evaluations import Evaluation
from store.rollout.releases import Release
from store.rollout.runs import Run
from trimtab import made_heldout
from trimtab.background import call_store
from trimtab.config.paths import DataPaths
from trimtab.config.rollout_sections import GateSettings
from trimtab.errors import error_facts
from trimtab.people_votes import ask_people, voted_comparisons
from trimtab.runs.task_queue import TaskQueue
from trimtab.serving import Serving

log = logging.getLogger(__name__)

NOT_COMPARED = "demonstrations do not show which answers people prefer: a canary at most, until votes or an operator decide"


def not_measured(run: Run, why: str) -> dict[str, Any]:
    """Return the decision on a run of which there are no figures, for the reason `why`."""
    return GateDecision("undecided", (why,)).to_json() | {"mode": run.gate}


class Evaluations:
    """Measures releases. `chat_api` opens a client of this platform's own gateway; on demand, `queue` takes turns.

    `progress` holds how far each evaluation under way is, by id; `max_answer_tokens` is the gateway's limit per answer.
    """

    def __init__(
        self,
        db: Store,
        serving: Serving,
        paths: DataPaths,
        gate: GateSettings,
        queue: TaskQueue,
        chat_api: Callable[[], ChatApi],
        max_answer_tokens: int | None = None,
    ) -> None:
        self.db, self.serving, self.paths, self.gate = db, serving, paths, gate
        self._queue, self._chat_api, self.max_answer_tokens = queue, chat_api, max_answer_tokens
        self.progress: dict[str, dict[str, Any]] = {}

    async def submit(
        self, release: Release, against: Release | None, suite: str, requested_by: str, people: int = 0
    ) -> Evaluation:
        """Queue a suite over the newest held-out data; then `people` blind pairs of its answers go to Rank.

        Raises SuiteError for a suite that can't be read, Conflict when no snapshot holds any data.
        """
        await asyncio.to_thread(load_suite, suite)
        heldout = await call_store(self.db, self._newest_heldout, release.deployment)
        if heldout is None:
            raise Conflict(
                f"nothing to measure on: {release.deployment} has no snapshot with its data; one comes with a run"
            )
        evaluation = await call_store(
            self.db,
            evaluations.create,
            release.id,
            against=against.id if against else None,
            suite=suite,
            requested_by=requested_by,
        )

        async def measure() -> None:
            with contextlib.suppress(Exception):  # its record has the error
                await self._run_suite(evaluation, release, against, heldout, people=people)

        self._queue.submit(evaluation.id, measure)
        return evaluation

    async def judge(self, run: Run) -> dict[str, Any]:
        """Measure the run's release against stable and ask the gate: `{passed, reasons, mode}`."""
        assert run.release is not None
        assert run.snapshot is not None
        deployment = await call_store(self.db, deployments.get, run.deployment)
        release = await call_store(self.db, releases.get, run.release)
        stable = await call_store(self.db, releases.get, deployment.stable)
        snapshot = await call_store(self.db, snapshots.get, run.snapshot)
        heldout: Path | HeldoutPrompts | None = self.paths.run(run.id) / "heldout.parquet"
        voted = snapshot.heldout_rows > 0
        if not voted:
            heldout = await call_store(self.db, made_heldout.of_snapshot, snapshot.id)
        if heldout is None:
            return not_measured(run, "nothing is held out of a single prompt, so nothing was measured")
        evaluation = await call_store(
            self.db,
            evaluations.create,
            release.id,
            against=stable.id,
            suite=self.gate.suite,
            requested_by=run.requested_by,
            run=run.id,
        )
        await call_store(self.db, runs.update, run.id, evaluation=evaluation.id)
        fresh = await call_store(self.db, new_rows.fresh_members, run.snapshot)
        report = await self._run_suite(
            evaluation, release, stable, heldout, await self._anchor(release), fresh=fresh
        )
        decision = decide(report, self.gate.all_checks(run.method, voted), self.gate.min_items)
        found = self._limited(run, decision) | {"mode": run.gate}
        return found if voted else found | {"reasons": [*found["reasons"], made_heldout.NO_VOTES]}

    def _limited(self, run: Run, decision: GateDecision) -> dict[str, Any]:
        """Return the decision; `at_most` is how far it lets a run that learned demonstrations go by itself.

        That they became likelier says nothing about whether people prefer the answers.
        """
        found = decision.to_json()
        if run.method != "sft" or self.gate.checks is not None or decision.compared:
            return found
        return found | {"at_most": "canary", "reasons": [*found["reasons"], NOT_COMPARED]}

    async def _anchor(self, release: Release) -> Release | None:
        """Return the release that slow decline is measured against; None where this engine cannot serve it any more."""
        anchor = await call_store(self.db, deployments.anchor, release.deployment)
        if anchor.base != release.base:
            return None
        if anchor.adapter and not await asyncio.to_thread((self.paths.adapters / anchor.adapter).is_dir):
            return None
        return anchor

    def _newest_heldout(self, db: Store, deployment: str) -> Path | HeldoutPrompts | None:
        """Return the held-out rows of the newest snapshot that has any and whose files no erasure deleted.

        Where there is none, the prompts that are held out for the newest snapshot of made rows.
        """
        found = [row for row in snapshots.list_all(db) if row.deployment == deployment]
        found.sort(key=lambda row: row.created_at, reverse=True)
        files = (self.paths.snapshots / row.id / "heldout.parquet" for row in found if row.heldout_rows)
        rated = next((file for file in files if file.is_file()), None)
        made = (made_heldout.of_snapshot(db, row.id) for row in found)
        return rated or next((prompts for prompts in made if prompts is not None), None)

    async def _run_suite(
        self,
        evaluation: Evaluation,
        release: Release,
        against: Release | None,
        heldout: Path | HeldoutPrompts,
        anchor: Release | None = None,
        people: int = 0,
        fresh: Collection[str] = (),
    ) -> dict[str, Any]:
        """Run one suite through the served endpoint; its record ends as `done` or `failed`."""

        def follow(progress: dict[str, Any]) -> None:
            self.progress[evaluation.id] = progress

        async def keep(items: Sequence[Item]) -> None:
            rows = [item.to_json() for item in items]
            await call_store(self.db, evaluation_items.record, evaluation.id, rows)

        await call_store(self.db, evaluations.move, evaluation.id, "running")
        await self.serving.wait_ready(release.base)
        try:
            async with self._chat_api() as api:
                report = await run_suite(
                    api,
                    release.ref,
                    against.ref if against else None,
                    heldout,
                    evaluation.suite,
                    follow,
                    anchor=anchor.ref if anchor else None,
                    seed=evaluation.id,
                    keep=keep,
                    caps=self._caps(release, against),
                    voted=await call_store(self.db, voted_comparisons, release.deployment),
                    pairs=people,
                    probe=True,
                    fresh=fresh,
                )
                if people and against is not None:
                    asked = await call_store(self.db, ask_people, evaluation.id, release, against, people)
                    report["people"] = {"wanted": people, "asked": asked}
        except Exception as error:
            log.exception("%s failed", evaluation.id)
            await call_store(self.db, evaluations.move, evaluation.id, "failed", error=error_facts(error))
            raise
        finally:
            self.progress.pop(evaluation.id, None)
        await call_store(self.db, evaluations.move, evaluation.id, "done", report=report)
        return report

    def _caps(self, *measured: Release | None) -> dict[str, int]:
        """Return the most tokens that these releases answer with, where they or the gateway have a limit."""
        found = {
            release.ref: max_answer_tokens(release.sampling, self.max_answer_tokens)
            for release in measured
            if release
        }
        return {ref: limit for ref, limit in found.items() if limit}
