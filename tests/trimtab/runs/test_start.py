"""What training goes on from: the base and all rows again, without losing what other methods and deployments taught."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.db.database import Store
from store.rollout import adapters, deployments, fine_tuning, releases, runs
from store.rollout.adapters import AdapterRecord
from trimtab.start_run import start_adapter


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "trimtab.duckdb") as db:
        for name in ("assistant", "poet"):
            deployments.ensure(db, name, "smol")
        yield db


def stable(
    db: Store, name: str, start: str | None, method: str | None, deployment: str = "assistant"
) -> None:
    """Make an adapter that a run of `method` trained (None: one from outside) stable in `assistant`."""
    run = runs.create(db, method, deployment).id if method else None
    adapters.record(db, AdapterRecord(name, "smol", f"/{name}", run=run, start_adapter=start))
    release = releases.create(db, "assistant", "smol", adapter=name, run=run)
    deployments.promote(db, "assistant", release=release.id)


def test_the_first_run_starts_from_the_base(db: Store) -> None:
    assert start_adapter(db, "dpo", "assistant", "auto", 1.0) is None


def test_repeated_runs_of_a_method_start_from_the_base(db: Store) -> None:
    stable(db, "a-1", None, "dpo")
    assert start_adapter(db, "dpo", "assistant", "auto", 1.0) is None
    stable(db, "a-2", "a-1", "dpo")
    assert start_adapter(db, "dpo", "assistant", "auto", 1.0) is None
    assert start_adapter(db, "dpo", "assistant", "stable", 1.0) == "a-2"
    assert start_adapter(db, "dpo", "assistant", "base", 1.0) is None


def test_what_another_method_taught_is_kept(db: Store) -> None:
    stable(db, "a-1", None, "sft")
    stable(db, "a-2", "a-1", "dpo")
    stable(db, "a-3", "a-2", "dpo")
    assert start_adapter(db, "dpo", "assistant", "auto", 1.0) == "a-1"
    assert start_adapter(db, "kto", "assistant", "auto", 1.0) == "a-3"
    assert start_adapter(db, "sft", "assistant", "auto", 1.0) == "a-3"


def test_what_another_deployment_or_somebody_else_trained_is_kept(db: Store) -> None:
    stable(db, "a-1", None, None)
    assert start_adapter(db, "dpo", "assistant", "auto", 1.0) == "a-1"
    stable(db, "a-2", "a-1", "dpo", deployment="poet")
    assert start_adapter(db, "dpo", "assistant", "auto", 1.0) == "a-2"
    stable(db, "a-3", "a-2", "dpo")
    assert start_adapter(db, "dpo", "assistant", "auto", 1.0) == "a-2"


def test_with_few_old_rows_training_goes_on_from_stable(db: Store) -> None:
    stable(db, "a-1", None, "dpo")
    assert start_adapter(db, "dpo", "assistant", "auto", 0.2) == "a-1"


def test_a_run_remembers_how_it_was_asked_to_start(db: Store) -> None:
    for start in ("auto", "stable", "base"):
        run = runs.create(db, "dpo", "assistant", start_from=start)
        assert (run.start_from, runs.get(db, run.id).start_from) == (start, start)
    assert runs.create(db, "dpo", "assistant").start_from == "auto"
    db.read().execute("update runs set start_auto = null, start_from = 'base' where id = $id", {"id": run.id})
    assert runs.get(db, run.id).start_from == "base", "as asked for before there was auto"


def test_what_a_fine_tuning_job_taught_is_kept(db: Store) -> None:
    job = fine_tuning.create(
        db,
        model="assistant",
        start_release=deployments.get(db, "assistant").stable,
        training_file="file-1",
        validation_file=None,
        hyperparameters={},
        suffix=None,
        seed=1,
        metadata=None,
        method="dpo",
        deployment="assistant",
    )
    adapters.record(db, AdapterRecord("a-1", "smol", "/a-1", run=job.run))
    release = releases.create(db, "assistant", "smol", adapter="a-1", run=job.run)
    deployments.promote(db, "assistant", release=release.id)
    assert start_adapter(db, "dpo", "assistant", "auto", 1.0) == "a-1"
    stable(db, "a-2", "a-1", "dpo")
    assert start_adapter(db, "dpo", "assistant", "auto", 1.0) == "a-1"
