"""The closed loop, one function a transition.

```
queued -> snapshot -> training -> publishing -> evaluating -> published | canary -> stable
                                                            \\-> rejected (gate)
canary -> rolled_back        any of them -> failed | cancelled
```

Each transition is committed to the store before the next step starts, and each step may be run again: a platform that
is killed at any point continues from the state that it finds. A canary ends by an operator's or the traffic's verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from align.evaluation.gate import GateDecision, decide
from align.evaluation.suite import ChatApi, run_suite
from align.recipe.recipe import Recipe, resolve, with_flip_rate
from align.run_directory import RunDirectory, RunSpec, adapter_identity
from store.datasets import snapshots
from store.db.database import Store
from store.errors import Conflict
from store.privacy import erasure
from store.rollout import adapters, deployments, evaluations, releases, runs
from store.rollout.evaluations import Evaluation
from store.rollout.releases import Release
from store.rollout.run_states import RUN_FINAL, RUN_UNDER_WAY
from store.rollout.runs import Run
from store.values import Probe
from trimtab.background import LongWork
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings
from trimtab.rollout.weighing import Trial, weigh_canary
from trimtab.runs.workers import TrainingFailed, TrainingStopped, Worker, Workers
from trimtab.serving import Serving

log = logging.getLogger(__name__)

WARM_EVERY_S = 2.0
"""How often a worker that waits for a run is looked after, seconds."""

CANARIES_EVERY_S = 60.0
"""How often canaries are looked after between votes, seconds: rounds and trials end by time."""

DATA_ERASED = {
    "kind": "data_erased",
    "message": "a person whose words or votes it was to learn from was forgotten; start a new run, which goes without them",
}
"""Why an erasure ends a run."""

T = TypeVar("T")


class Loop:
    """Takes runs through their states, one at a time, in the platform's event loop.

    A platform that stops leaves each run in its state, and `start` takes it up again.
    """

    def __init__(
        self,
        db: Store,
        serving: Serving,
        paths: DataPaths,
        settings: Settings,
        long_work: LongWork,
        chat_api: Callable[[], ChatApi],
    ) -> None:
        self.db, self.serving, self.paths, self.settings = db, serving, paths, settings
        self.long_work = long_work
        self.workers = Workers(settings.training, paths.logs / "waiting-worker.log")
        self._chat_api = chat_api
        self._turn = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: dict[str, dict[str, Any] | None] = {}  # the run's error to be
        self.steps: dict[str, Callable[[Run], Awaitable[Run]]] = {
            "queued": self.begin,
            "snapshot": self.take_snapshot,
            "training": self.train,
            "publishing": self.publish,
            "evaluating": self.evaluate,
        }

    # ---- the transitions

    async def begin(self, run: Run) -> Run:
        """queued -> snapshot."""
        return await self._move(run, "snapshot")

    async def take_snapshot(self, run: Run) -> Run:
        """snapshot -> training: freezes the data and writes the run directory, `run.toml` last."""
        facts = await self.long_work.run(self._freeze, run)
        return await self._move(run, "training", **facts)

    def _freeze(self, run: Run) -> dict[str, Any]:
        """The work of `take_snapshot`, with what it found out of the run.

        No erasure comes between the snapshot and its copy: it would find neither this run nor the copy.
        """
        with self.db.long_work:
            snapshot = snapshots.build(
                self.db,
                self.paths.snapshots,
                run.deployment,
                run.method,
                **self.settings.snapshot.model_dump(),
            )
            stable = releases.get(self.db, deployments.get(self.db, run.deployment).stable)
            recipe, flips = with_flip_rate(self.recipe_of(run), snapshot.report.get("agreement"))
            if flips:
                log.info("%s: %s", run.id, flips)
            # an adapter that learned from something erased since is left out: its nearest clean ancestor, or the base
            start = erasure.clean_start(self.db, stable.adapter) if run.start_from == "stable" else None
            spec = RunSpec(
                method=run.method,
                base_model=str(self.serving.model_path(stable.base)),
                recipe=recipe.to_dict(),
                snapshot=snapshot.id,
                start_adapter=str(self.paths.adapters / start) if start else None,
                start_sha256=adapter_identity(self.paths.adapters / start) if start else None,
                run_id=run.id,
                base_name=stable.base,
                max_lora_rank=self.serving.max_lora_rank(stable.base),
                cache_dir=str(self.paths.cache),
                system_prompt=stable.system_prompt,
                chat_template_kwargs=stable.sampling.get("chat_template_kwargs"),
            )
            frozen = self.paths.snapshots / snapshot.id
            RunDirectory(self.paths.run(run.id)).write(
                spec, frozen / "train.parquet", frozen / "heldout.parquet"
            )
            runs.update(self.db, run.id, snapshot=snapshot.id)
        return {"snapshot": snapshot.id, "base": stable.base, "start_adapter": start}

    def recipe_of(self, run: Run) -> Recipe:
        """The complete recipe that was asked for. Raises RecipeError."""
        settings = {"save_steps": self.settings.training.checkpoint_steps}
        return resolve(run.method, run.qlora, run.params, run.recipe, settings)

    async def train(self, run: Run) -> Run:
        """training -> publishing: the worker trains from its newest checkpoint, and its progress is stored."""
        directory = RunDirectory(self.paths.run(run.id))
        if directory.report() is None:
            await Worker(self.db, run.id, directory, self.workers).run()
        return await self._move(run, "publishing")

    async def publish(self, run: Run) -> Run:
        """publishing -> evaluating: the adapter on every engine, checked, and a release without traffic."""
        directory = self.paths.run(run.id)
        deployment = await self._store(deployments.get, run.deployment)
        stable = await self._store(releases.get, deployment.stable)
        await self.serving.wait_ready(stable.base)
        probe = Probe.from_json(RunDirectory(directory).probe() or {})
        published = await self.serving.publish(directory / "adapter", stable.base, probe)
        await self._store(adapters.record, self.serving.adapter_record(published, stable.base, run.id))
        release = await self._store(releases.for_run, run.id)
        run = await self._store(runs.get, run.id)  # again: who asked may have been forgotten meanwhile
        if release is None:
            release = await self._store(
                releases.create,
                run.deployment,
                stable.base,
                adapter=published.name,
                system_prompt=stable.system_prompt,
                sampling=stable.sampling,
                run=run.id,
                created_by=run.requested_by,
            )
        await self.serving.refresh()
        return await self._move(run, "evaluating", adapter=published.name, release=release.id)

    async def evaluate(self, run: Run) -> Run:
        """evaluating -> rejected | published | canary | stable: the suite against stable, the gate, the rollout."""
        assert run.release is not None
        if run.gate_decision is None:
            run = await self._store(runs.update, run.id, gate_decision=await self._judge(run))
        assert run.gate_decision is not None
        state = end_of(run, self.settings.gate.on_undecided)
        await self._roll_out(run, state)
        return await self._move(run, state)

    async def _judge(self, run: Run) -> dict[str, Any]:
        """Measures the run's release against stable and asks the gate: `{passed, reasons, mode}`."""
        deployment = await self._store(deployments.get, run.deployment)
        release = await self._store(releases.get, run.release)
        stable = await self._store(releases.get, deployment.stable)
        snapshot = await self._store(snapshots.get, run.snapshot)
        if snapshot.heldout_rows == 0:
            why = "nothing is held out of a single prompt, so nothing was measured"
            return GateDecision("undecided", (why,)).to_json() | {"mode": run.gate}
        evaluation = await self._store(
            evaluations.create,
            release.id,
            against=stable.id,
            suite=self.settings.gate.suite,
            requested_by=run.requested_by,
            run=run.id,
        )
        await self._store(runs.update, run.id, evaluation=evaluation.id)
        anchor = await self._anchor(release)
        report = await self._run_suite(
            evaluation, release, stable, self.paths.run(run.id) / "heldout.parquet", anchor
        )
        gate = self.settings.gate
        return decide(report, gate.all_checks(), gate.min_items).to_json() | {"mode": run.gate}

    async def _anchor(self, release: Release) -> Release | None:
        """The release that slow decline is measured against; None where this engine can't serve it any more."""
        anchor: Release = await self._store(deployments.anchor, release.deployment)
        if anchor.base != release.base:
            return None
        if anchor.adapter and not await asyncio.to_thread((self.paths.adapters / anchor.adapter).is_dir):
            return None
        return anchor

    async def _roll_out(self, run: Run, state: str) -> None:
        """Gives the release the traffic that `state` stands for; done already, it changes nothing."""
        deployment = await self._store(deployments.get, run.deployment)
        actor = run.requested_by or run.id
        if state == "canary" and deployment.canary != run.release:
            weight = self.settings.canary.weight
            await self._route(deployments.set_canary, run.deployment, run.release, weight, actor)
        elif state == "stable" and deployment.stable != run.release:
            await self._route(deployments.promote, run.deployment, actor, release=run.release)
        elif state != "rejected":
            await self.serving.refresh()
        if state in ("canary", "stable"):
            await self._displace(deployment.canary, run.release)

    async def _displace(self, canary: str | None, by: str | None) -> None:
        """Takes the run of a canary whose place another release has taken back to `published`."""
        if canary is not None and canary != by:
            await self._follow(await self._store(releases.get, canary), "published")

    # ---- verdicts on a release, from an operator or from the traffic

    async def set_canary(
        self, deployment: str, release: str, weight: float, actor: str, reason: str | None = None
    ) -> None:
        """Gives a release a share of the traffic; its run, where it has one, is at `canary`.

        Raises Invalid where the gate rejected the release and no reason is given.
        """
        await self._refuse_pruned(release)
        before = await self._store(deployments.get, deployment)
        after = await self._route(deployments.set_canary, deployment, release, weight, actor, reason)
        await self._displace(before.canary, after.canary)
        await self._follow(await self._store(releases.get, release), "canary")

    async def promote(
        self, deployment: str, release: str | None, actor: str, reason: str | None = None
    ) -> None:
        """Makes a release (without one: the canary) stable, as an operator asks.

        Raises Conflict when there is no canary to promote, Invalid where the gate rejected the release and no
        reason is given.
        """
        if release is not None:
            await self._refuse_pruned(release)
        before = await self._store(deployments.get, deployment)
        promoted = await self._route(
            deployments.promote, deployment, actor, release=release, reason=reason, approved=True
        )
        await self._displace(before.canary, promoted.stable)
        await self._follow(await self._store(releases.get, promoted.stable), "stable")

    async def _refuse_pruned(self, release: str) -> None:
        """Raises Conflict for a release whose adapter was deleted: it could only answer with errors."""
        adapter = (await self._store(releases.get, release)).adapter
        if adapter and not await asyncio.to_thread((self.paths.adapters / adapter).is_dir):
            raise Conflict(f"{release} can take no traffic: its adapter {adapter} was pruned")

    async def rollback(self, deployment: str, actor: str) -> None:
        """Ends the canary, or goes back to the stable release before this one. Raises Conflict without either."""
        before = await self._store(deployments.get, deployment)
        await self._route(deployments.rollback, deployment, actor)
        await self._follow(await self._store(releases.get, before.canary or before.stable), "rolled_back")

    async def withdraw_canary(
        self, deployment: str, canary: str, actor: str, evidence: dict[str, Any] | None = None
    ) -> None:
        """Ends the canary with this record id, which the alarm or the votes are about, unless it is no longer one."""
        try:
            await self._route(
                deployments.rollback, deployment, actor, expect_canary=canary, evidence=evidence
            )
        except Conflict as error:
            log.info("%s comes too late: %s", actor, error)
            return
        await self._follow(await self._store(releases.get, canary), "rolled_back")

    async def weigh_votes(self, deployment: str) -> None:
        """Promotes or rolls back a canary once votes prove enough or its time is over; called after each vote."""
        if self.settings.canary.votes_alpha is None:
            return
        excluded = self.settings.snapshot.exclude_raters
        trial: Trial | None = await self._store(weigh_canary, deployment, self.settings.canary, excluded)
        if trial is None or trial.verdict is None:
            return
        actor, duel = trial.sentence(), trial.duel
        log.info("%s: %s by %s", deployment, trial.verdict, actor)
        if trial.verdict == "rollback":
            await self.withdraw_canary(deployment, duel.canary, actor, trial.facts())
            return
        try:
            await self._route(
                deployments.promote,
                deployment,
                actor,
                release=duel.canary,
                expect_canary=duel.canary,
                expect_stable=duel.stable,
                evidence=trial.facts(),
            )
        except Conflict as error:
            log.info("%s comes too late: %s", actor, error)
            return
        await self._follow(await self._store(releases.get, duel.canary), "stable")

    async def watch_canaries(self) -> None:
        """Ends canaries whose time is over, for as long as the platform lives."""
        while True:
            await asyncio.sleep(CANARIES_EVERY_S)
            for deployment in await self._store(deployments.list_all):
                try:
                    if deployment.canary:
                        await self.weigh_votes(deployment.name)
                except Exception:
                    log.exception("the canary of %s could not be weighed", deployment.name)

    async def _follow(self, release: Release, state: str) -> None:
        """Moves the run that made `release` to `state`, where its history allows."""
        if release.run is None:
            return
        run = await self._store(runs.get, release.run)
        if run.state != state:
            try:
                await self._move(run, state)
            except Conflict as error:
                log.info("%s stays %s: %s", run.id, run.state, error)

    # ---- evaluations on demand

    async def submit_evaluation(
        self, release: Release, against: Release | None, suite: str, requested_by: str
    ) -> Evaluation:
        """Queues a suite over the newest held-out data. Raises Conflict when no snapshot holds any."""
        heldout = await asyncio.to_thread(self._newest_heldout, release.deployment)
        if heldout is None:
            raise Conflict(
                f"nothing to measure on: {release.deployment} has no snapshot with its data; one comes with a run"
            )
        evaluation: Evaluation = await self._store(
            evaluations.create,
            release.id,
            against=against.id if against else None,
            suite=suite,
            requested_by=requested_by,
        )

        async def drive() -> None:
            async with self._turn:
                with contextlib.suppress(Exception):
                    await self._run_suite(evaluation, release, against, heldout)

        self._keep(evaluation.id, drive())
        return evaluation

    def _newest_heldout(self, deployment: str) -> Path | None:
        """The held-out rows of the newest snapshot whose files no erasure took."""
        found = [row for row in snapshots.list_all(self.db) if row.deployment == deployment]
        found.sort(key=lambda row: row.created_at, reverse=True)
        files = (self.paths.snapshots / row.id / "heldout.parquet" for row in found)
        return next((file for file in files if file.is_file()), None)

    async def _run_suite(
        self,
        evaluation: Evaluation,
        release: Release,
        against: Release | None,
        heldout: Path,
        anchor: Release | None = None,
    ) -> dict[str, Any]:
        """One suite through the served endpoint; its record ends as `done` or `failed`."""
        await self._store(evaluations.move, evaluation.id, "running")
        await self.serving.wait_ready(release.base)
        try:
            async with self._chat_api() as api:
                report = await run_suite(
                    api,
                    release.ref,
                    against.ref if against else None,
                    heldout,
                    evaluation.suite,
                    _ignore,
                    anchor=anchor.ref if anchor else None,
                    seed=evaluation.id,
                )
        except Exception as error:
            log.exception("%s failed", evaluation.id)
            await self._store(evaluations.move, evaluation.id, "failed", error=_explain(error))
            raise
        await self._store(evaluations.move, evaluation.id, "done", report=report)
        return report

    # ---- driving

    async def start(self) -> None:
        """Takes up every run that an earlier platform left unfinished, oldest first; not one whose data was erased."""
        touched = await self._store(erasure.runs_touched)
        for run in await self._store(runs.unfinished):
            if run.state in self.steps and run.id in touched:
                await self._move(run, "cancelled", error=DATA_ERASED)
            elif run.state in self.steps:
                log.info("taking up %s in state %s", run.id, run.state)
                self.submit(run.id)

    def submit(self, run_id: str) -> None:
        """Drives a run in the background; runs take turns."""
        if run_id not in self._tasks:
            self._keep(run_id, self._drive(run_id))

    def _keep(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def cancel(self, run_id: str, why: dict[str, Any] | None = None) -> Run:
        """Ends a run within seconds, keeping its checkpoints; it can be resumed. `why` becomes the run's error."""
        self._cancelled[run_id] = why
        task = self._tasks.get(run_id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        run: Run = await self._store(runs.get, run_id)
        if run.state not in RUN_FINAL:
            run = await self._move(run, "cancelled", error=why)
        del self._cancelled[run_id]
        return run

    async def stop_erased(self, run_ids: Iterable[str]) -> list[str]:
        """Ends those of the runs that are under way, since data that they hold was erased; returns which."""
        stopped = []
        for run_id in run_ids:
            run: Run = await self._store(runs.get, run_id)
            if run.state in RUN_UNDER_WAY and (await self.cancel(run_id, DATA_ERASED)).state == "cancelled":
                stopped.append(run_id)
        return stopped

    async def resume(self, run_id: str) -> Run:
        """Takes a cancelled or failed run up where its files say it was. Raises Conflict where its data was erased."""
        if run_id in await self._store(erasure.runs_touched):
            raise Conflict(f"run {run_id} can not go on: {DATA_ERASED['message']}")
        run: Run = await self._store(runs.get, run_id)
        if run.state in ("failed", "cancelled") and run_id not in self._tasks:
            directory = RunDirectory(self.paths.run(run_id))
            directory.withdraw_stop()
            prepared = (directory.path / "run.toml").exists()
            run = await self._move(run, "training" if prepared else "queued", error=None)
            self.submit(run_id)
        return run

    async def close(self) -> None:
        """Stops driving; each run keeps its state for the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.workers.close()

    async def keep_warm(self) -> None:
        """Has a worker ready for the next run whenever engines serve and no run is under way."""
        for base in self.serving.bases:
            await self.serving.wait_ready(base)
        while True:
            if not self._turn.locked():
                await self.workers.warm()
            await asyncio.sleep(WARM_EVERY_S)

    async def _drive(self, run_id: str) -> None:
        async with self._turn:
            run: Run = await self._store(runs.get, run_id)
            try:
                while run.state in self.steps:
                    run = await self.steps[run.state](run)
                log.info("%s ended as %s", run.id, run.state)
            except asyncio.CancelledError:
                if run_id in self._cancelled:
                    run = await self._store(runs.get, run_id)
                    await self._move(run, "cancelled", error=self._cancelled[run_id])
                raise
            except TrainingStopped:
                await self._move(run, "cancelled")
            except TrainingFailed as error:
                log.error("%s failed: %s", run_id, error)
                await self._move(run, "failed", error=error.facts)
            except Exception as error:
                log.exception("%s failed in state %s", run_id, run.state)
                await self._move(run, "failed", error=_explain(error))

    async def _move(self, run: Run, state: str, **fields: Any) -> Run:
        moved: Run = await self._store(runs.move, run.id, state, **fields)
        return moved

    async def _route(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """A change of what deployments mean, and the traffic follows it."""
        return await self.serving.change(partial(function, self.db, *args, **kwargs))

    async def _store(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self.db.guarded():
            return await asyncio.to_thread(function, self.db, *args, **kwargs)


def end_of(run: Run, on_undecided: str) -> str:
    """The state that a judged run ends in: what its rollout asks for, as far as the gate lets it.

    A gate that is `undecided` leads to a canary at most, never to stable.
    """
    asked = {"none": "published", "canary": "canary", "promote": "stable"}[run.rollout]
    decision = run.gate_decision or {}
    verdict = decision.get("verdict") or ("pass" if decision.get("passed") else "fail")
    if run.gate != "enforce" or verdict == "pass":
        return asked
    if verdict == "fail" or on_undecided == "reject":
        return "rejected"
    if on_undecided == "ask":
        return "published"
    return "canary" if asked == "stable" else asked


def _explain(error: BaseException) -> dict[str, Any]:
    return {"kind": type(error).__name__, "message": str(error) or type(error).__name__}


def _ignore(*_: Any) -> None:
    """Progress of a suite that nobody watches."""
