"""Erase a person from all that a data directory holds: the store, runs under way, and the files of runs.

`store.privacy.erasure` says what goes; here the platform does what follows from it.
"""

from __future__ import annotations

from typing import Any

from align.run_directory import RunDirectory
from feedback_ui.texts import CHAT_EXAMPLES
from serve.metering.limits import USER
from serve.metering.usage_writer import UsageWriter
from store.accounts import keys
from store.db.database import Store
from store.jobs import jobs
from store.jobs.jobs import JOB_UNDER_WAY
from store.privacy import erased_files, erasure
from store.rollout import runs
from store.rollout.run_states import RUN_UNDER_WAY
from store.training_data import uploaded_files
from trimtab.config.paths import DataPaths
from trimtab.platform import Platform
from trimtab.sample_prompts import SAMPLE_PROMPTS


async def erase_person(platform: Platform, name: str, actor: str) -> dict[str, Any]:
    """Erase a person and stop the runs and jobs that worked on their words; return the erasure, and `stopped`, their ids.

    Raises NotFound.
    """
    done = await platform.long_work.run(_erase, platform.usage, name, actor)
    platform.authenticator.drop_cached()
    stopped = await platform.runner.cancel_erased(done.runs)
    stopped += await platform.jobs.cancel_erased(done.jobs)
    await platform.serving.refresh()  # a release's examples may have been theirs
    await platform.long_work.run(delete_erased_files, platform.paths)
    return {**done.to_json(), "stopped": stopped, "dry_run": False}


def erase_offline(db: Store, paths: DataPaths, name: str, actor: str) -> dict[str, Any]:
    """Erase a person while no platform runs; runs that one left under way end when it starts. Raises NotFound."""
    done = erasure.erase_person(db, name, actor, suggested_prompts())
    delete_erased_files(db, paths)
    return {**done.to_json(), "stopped": _under_way(db, done), "dry_run": False}


def preview(db: Store, name: str) -> dict[str, Any]:
    """Return what `erase_person` would do, and change nothing. Raises NotFound."""
    found = erasure.preview(db, name, suggested_prompts())
    return {**found.to_json(), "stopped": _under_way(db, found), "dry_run": True}


def delete_erased_files(db: Store, paths: DataPaths) -> None:
    """Delete what erasures and deletions of uploaded files left on the disk, of runs that are not under way.

    May be done at any time.
    """
    erased_files.delete_erased(db)
    for run_id in {
        *erasure.runs_touched(db),
        *runs.of_snapshots(db, uploaded_files.snapshots_of_deleted(db)),
    }:
        if runs.get(db, run_id).state not in RUN_UNDER_WAY:
            RunDirectory(paths.run(run_id)).delete_rows()


def _erase(db: Store, usage: UsageWriter, name: str, actor: str) -> erasure.Erasure:
    theirs = [key.id for key in keys.list_all(db) if key.user == name]
    with usage.erasing([USER + name, *theirs]):
        return erasure.erase_person(db, name, actor, suggested_prompts())


def _under_way(db: Store, found: erasure.Erasure) -> list[str]:
    learning = [id for id in found.runs if runs.get(db, id).state in RUN_UNDER_WAY]
    return learning + [id for id in found.jobs if jobs.get(db, id).state in JOB_UNDER_WAY]


def suggested_prompts() -> tuple[str, ...]:
    """Return the prompts that the platform itself offers: whoever uses one does not own it."""
    return (*SAMPLE_PROMPTS, *CHAT_EXAMPLES)
