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
from store.rollout import adapters, deployments, releases, runs
from store.rollout.releases import Release
from store.rollout.runs import Run
from store.values import Probe
from trimtab.background import LongWork, call_store
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings
from trimtab.evaluations import Evaluations
from trimtab.rollout.rollout import Rollout, final_state
from trimtab.runs.make_room import needed_by, room_for
from trimtab.runs.planning import recipe_of
from trimtab.runs.workers import Worker, Workers
from trimtab.serving import Serving
from trimtab.start_run import start_adapter

log = logging.getLogger(__name__)


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
    stable = await call_store(loop.db, _stable, run.deployment)
    await loop.serving.wait_downloaded(stable.base)
    facts = await loop.long_work.run(_freeze, loop, run)
    return await _move(loop, run, "training", **facts)


def _stable(db: Store, deployment: str) -> Release:
    """Return the stable release of a deployment."""
    return releases.get(db, deployments.get(db, deployment).stable)


def _freeze(db: Store, loop: Loop, run: Run) -> dict[str, Any]:
    """Build the snapshot and the run directory; return what the run's record gets from it.

    No erasure comes between the snapshot and its copy: it would find neither this run nor the copy.
    """
    paths = loop.paths
    with db.long_work:
        snapshot = snapshots.build(
            db, paths.snapshots, run.deployment, run.method, **loop.settings.snapshot.model_dump()
        )
        stable = _stable(db, run.deployment)
        replay = loop.settings.snapshot.replay
        start = start_adapter(db, run.method, run.deployment, run.start_from, replay)
        spec = _run_spec(loop, run, stable, snapshot, start)
        frozen = paths.snapshots / snapshot.id
        RunDirectory(paths.run(run.id)).write(spec, frozen / "train.parquet", frozen / "heldout.parquet")
        runs.update(db, run.id, snapshot=snapshot.id)
    return {"snapshot": snapshot.id, "base": stable.base, "start_adapter": start}


def _run_spec(loop: Loop, run: Run, stable: Release, snapshot: Snapshot, start: str | None) -> RunSpec:
    """Return what the worker is to do: `run`'s recipe on the base of `stable`, from the adapter `start` if any."""
    asked = recipe_of(loop.settings.training, run.method, run.qlora, run.params, run.recipe)
    recipe, flips = with_flip_rate(asked, snapshot.report.get("agreement"))
    adapter = loop.paths.adapters / start if start else None
    base = loop.serving.model_path(stable.base)
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
        base_name=stable.base,
        max_lora_rank=loop.serving.max_lora_rank(stable.base),
        cache_dir=str(loop.paths.cache),
        system_prompt=None if run.no_system_prompt else stable.system_prompt,
        chat_template_kwargs=stable.sampling.get("chat_template_kwargs"),
    )


async def train(loop: Loop, run: Run) -> Run:
    """Train in a worker from the newest checkpoint, and store its progress; training -> publishing."""
    directory = RunDirectory(loop.paths.run(run.id))
    if directory.report() is None:
        settings = loop.settings.training
        needed = await needed_by(loop.db, directory, run.deployment, settings)
        async with room_for(needed, loop.serving.pool, settings):
            await Worker(loop.db, run.id, directory, loop.workers).execute()
    return await _move(loop, run, "publishing")


async def publish(loop: Loop, run: Run) -> Run:
    """Load the adapter on every engine, checked, and make a release without traffic; publishing -> evaluating."""
    directory = loop.paths.run(run.id)
    deployment = await call_store(loop.db, deployments.get, run.deployment)
    stable = await call_store(loop.db, releases.get, deployment.stable)
    await loop.serving.wait_ready(stable.base)
    probe = Probe.from_json(RunDirectory(directory).probe() or {})
    published = await loop.serving.publish(directory / "adapter", stable.base, probe)
    record = loop.serving.adapter_record(published, stable.base, run.id)
    await call_store(loop.db, adapters.record, record)
    release = await call_store(loop.db, releases.for_run, run.id)
    run = await call_store(loop.db, runs.get, run.id)  # again: who asked may have been erased meanwhile
    if release is None:
        release = await call_store(
            loop.db,
            releases.create,
            run.deployment,
            stable.base,
            adapter=published.name,
            system_prompt=None if run.no_system_prompt else stable.system_prompt,
            sampling=stable.sampling,
            run=run.id,
            created_by=run.requested_by,
        )
    await loop.serving.refresh()
    return await _move(loop, run, "evaluating", adapter=published.name, release=release.id)


async def evaluate(loop: Loop, run: Run) -> Run:
    """Measure against stable and store the gate's decision; then roll out."""
    if run.gate_decision is None:
        decision = await loop.evaluations.judge(run)
        run = await call_store(loop.db, runs.update, run.id, gate_decision=decision)
    return await roll_out(loop, run)


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
