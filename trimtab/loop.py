"""The closed loop: snapshot, train, publish, evaluate, roll out. One function per step of a run.

```
queued -> snapshot -> training -> publishing -> evaluating -> published | canary -> stable
                                                            \\-> rejected (gate)
canary -> rolled_back        any of them -> failed | cancelled
```

Each transition is committed to the store before the next step starts, and each step may be called again: a platform that
is killed at any point continues from the state that it finds (`trimtab.runs.runner`). What becomes of a canary is decided
in `trimtab.rollout.rollout`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from align.errors import ModelError
from align.recipe.auto import facts_of, with_auto
from align.recipe.auto import notes as auto_notes
from align.recipe.recipe import with_flip_rate
from align.run_directory import RunDirectory, RunSpec, adapter_identity
from store.datasets import snapshots
from store.datasets.snapshots import Snapshot
from store.db.database import Store
from store.privacy import erasure
from store.rollout import adapters, chat_template_kwargs, deployments, fine_tuning, releases, runs
from store.rollout.releases import Release
from store.rollout.runs import Run
from store.values import Probe
from trimtab.background import LongWork, call_store
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings
from trimtab.evaluations import Evaluations, not_measured
from trimtab.rollout.rollout import Rollout, final_state
from trimtab.runs.make_room import needed_by, room_for
from trimtab.runs.planning import recipe_of
from trimtab.runs.workers import Worker, Workers
from trimtab.serving import Serving
from trimtab.start_run import start_adapter

log = logging.getLogger(__name__)

NO_VALIDATION_FILE = "the fine-tuning job has no validation file, so nothing was measured"


@dataclass(frozen=True, slots=True)
class Loop:
    """What the steps work with."""

    db: Store
    paths: DataPaths
    settings: Settings
    long_work: LongWork
    serving: Serving
    workers: Workers
    evaluations: Evaluations
    rollout: Rollout

    def steps(self) -> dict[str, Callable[[Run], Awaitable[Run]]]:
        """Return the step of each state, for a runner."""
        return {state: partial(step, self) for state, step in STEPS.items()}


async def take_snapshot(loop: Loop, run: Run) -> Run:
    """Freeze the data and write the run directory, `run.toml` last; queued -> snapshot -> training."""
    if run.state == "queued":
        run = await _move(loop, run, "snapshot")
    learner = await call_store(loop.db, _learner, run)
    await loop.serving.wait_downloaded(learner.base)
    facts = await loop.long_work.run(_freeze, loop, run)
    return await _move(loop, run, "training", **facts)


def _learner(db: Store, run: Run) -> Release:
    """Return the release that a run makes a successor of: stable, or the one that a fine-tuning job names."""
    job = fine_tuning.of_run(db, run.id)
    return releases.get(db, job.start_release if job else deployments.get(db, run.deployment).stable)


def _freeze(db: Store, loop: Loop, run: Run) -> dict[str, Any]:
    """Build the snapshot and the run directory; return what the run's record gets from it.

    No erasure comes between the snapshot and its copy: it would find neither this run nor the copy.
    """
    paths = loop.paths
    with db.long_work:
        learner = _learner(db, run)
        if job := fine_tuning.of_run(db, run.id):
            snapshot = snapshots.build_of_file(
                db, paths.snapshots, job.training_file, run.method, job.validation_file
            )
            start = erasure.clean_start(db, learner.adapter)
        else:
            settings = loop.settings.snapshot
            snapshot = snapshots.build(
                db, paths.snapshots, run.deployment, run.method, **settings.model_dump()
            )
            start = start_adapter(db, run.method, run.deployment, run.start_from, settings.replay)
        spec = _run_spec(loop, run, learner, snapshot, start)
        frozen = paths.snapshots / snapshot.id
        RunDirectory(paths.run(run.id)).write(spec, frozen / "train.parquet", frozen / "heldout.parquet")
        runs.update(db, run.id, snapshot=snapshot.id)
    return {"snapshot": snapshot.id, "base": learner.base, "start_adapter": start}


def _run_spec(loop: Loop, run: Run, learner: Release, snapshot: Snapshot, start: str | None) -> RunSpec:
    """Return what the worker is to do: `run`'s recipe on the base of `learner`, from the adapter `start` if any."""
    asked = recipe_of(loop.settings.training, run.method, run.qlora, run.params, run.recipe)
    recipe, flips = with_flip_rate(asked, snapshot.report.get("agreement"))
    adapter = loop.paths.adapters / start if start else None
    base = loop.serving.model_path(learner.base)
    with suppress(ModelError):  # the worker says what is wrong with the base
        recipe = with_auto(recipe, facts_of(base, snapshot.train_rows, adapter))
    for note in (*([flips] if flips else []), *auto_notes(recipe)):
        log.info("%s: %s", run.id, note)
    return RunSpec(
        method=run.method,
        base_model=str(base),
        recipe=recipe.to_dict(),
        snapshot=snapshot.id,
        start_adapter=str(adapter) if adapter else None,
        start_sha256=adapter_identity(adapter) if adapter else None,
        run_id=run.id,
        base_name=learner.base,
        max_lora_rank=loop.serving.max_lora_rank(learner.base),
        cache_dir=str(loop.paths.cache),
        system_prompt=None if run.no_system_prompt else learner.system_prompt,
        chat_template_kwargs=chat_template_kwargs.fixed_by(learner.sampling) or None,
    )


async def train(loop: Loop, run: Run) -> Run:
    """Train in a worker from the newest checkpoint, and store its progress; training -> publishing."""
    directory = RunDirectory(loop.paths.run(run.id))
    if directory.report() is None:
        settings = loop.settings.training
        job = await call_store(loop.db, fine_tuning.of_run, run.id)
        rows_of = job.training_file if job else run.deployment
        needed = await needed_by(loop.db, directory, rows_of, settings)
        async with room_for(needed, loop.serving.pool, settings):
            await Worker(loop.db, run.id, directory, loop.workers).execute()
    return await _move(loop, run, "publishing")


async def publish(loop: Loop, run: Run) -> Run:
    """Load the adapter on every engine, checked, and make a release without traffic; publishing -> evaluating."""
    directory = loop.paths.run(run.id)
    learner = await call_store(loop.db, _learner, run)
    await loop.serving.wait_ready(learner.base)
    probe = Probe.from_json(RunDirectory(directory).probe() or {})
    published = await loop.serving.publish(directory / "adapter", learner.base, probe)
    record = loop.serving.adapter_record(published, learner.base, run.id)
    await call_store(loop.db, adapters.record, record)
    release = await call_store(loop.db, releases.for_run, run.id)
    run = await call_store(loop.db, runs.get, run.id)  # again: who asked may have been erased meanwhile
    if release is None:
        release = await call_store(
            loop.db,
            releases.create,
            run.deployment,
            learner.base,
            adapter=published.name,
            system_prompt=None if run.no_system_prompt else learner.system_prompt,
            sampling=learner.sampling,
            run=run.id,
            created_by=run.requested_by,
        )
    await loop.serving.refresh()
    return await _move(loop, run, "evaluating", adapter=published.name, release=release.id)


async def evaluate(loop: Loop, run: Run) -> Run:
    """Measure against stable and store the gate's decision; then roll out."""
    if run.gate_decision is None:
        run = await call_store(loop.db, runs.update, run.id, gate_decision=await _judge(loop, run))
    return await roll_out(loop, run)


async def _judge(loop: Loop, run: Run) -> dict[str, Any]:
    """Return the gate's decision; `undecided` where a fine-tuning job's model cannot be measured.

    The model answers by then, and no traffic depends on the figures.
    """
    job = await call_store(loop.db, fine_tuning.of_run, run.id)
    if job is not None and job.validation_file is None:
        return not_measured(run, NO_VALIDATION_FILE)
    try:
        return await loop.evaluations.judge(run)
    except Exception as error:
        if job is None:
            raise
        log.exception("%s: its release could not be measured", run.id)
        return not_measured(run, f"it could not be measured: {error or type(error).__name__}")


async def roll_out(loop: Loop, run: Run) -> Run:
    """Give as much traffic as was asked for and the gate allows; evaluating -> rejected | published | canary | stable."""
    state = final_state(run, loop.settings.gate.on_undecided)
    await loop.rollout.apply(run, state)
    return await _move(loop, run, state)


STEPS: Mapping[str, Callable[[Loop, Run], Awaitable[Run]]] = {
    "queued": take_snapshot,
    "snapshot": take_snapshot,  # cut short: from its start again
    "training": train,
    "publishing": publish,
    "evaluating": evaluate,
}
"""The step of each state; a run in any other state has ended or waits for a decision on its canary."""


async def _move(loop: Loop, run: Run, state: str, **fields: Any) -> Run:
    return await call_store(loop.db, runs.move, run.id, state, **fields)
