"""Jobs of OpenAI's fine-tuning API: what was asked for, beside the run that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import Row, dumps, fetch_all, fetch_first, fetch_one, loads, stamp
from store.errors import NotFound
from store.ids import new_id
from store.rollout import runs
from store.rollout.run_states import RUN_UNDER_WAY

_COLUMNS = (
    "id, run, model, start_release, training_file, validation_file, hyperparameters, suffix, seed, "
    "metadata, created_at"
)


@dataclass(frozen=True, slots=True)
class FineTuningJob(Record):
    """One job.

    `model` is the name that was asked for, `start_release` the record id of the release that it meant then: training goes
    on from its adapter, and the new release has its system prompt. `hyperparameters` are OpenAI's, as they were given.
    """

    id: str
    run: str
    model: str
    start_release: str
    training_file: str
    validation_file: str | None
    hyperparameters: dict[str, Any]
    suffix: str | None
    seed: int
    metadata: dict[str, str] | None
    created_at: datetime


def create(
    db: Store,
    /,
    *,
    model: str,
    start_release: str,
    training_file: str,
    validation_file: str | None,
    hyperparameters: Mapping[str, Any],
    suffix: str | None,
    seed: int,
    metadata: Mapping[str, str] | None,
    **run: Any,
) -> FineTuningJob:
    """Record a job with its run, in state `queued`; `run` are the arguments of `runs.create`."""
    with db.atomic() as cursor:
        rows = fetch_all(
            cursor,
            f"""
            insert into fine_tuning_jobs ({_COLUMNS})
            values ($id, $run, $model, $start, $training, $validation, $hyperparameters, $suffix, $seed, $metadata, $now)
            returning {_COLUMNS}
            """,
            {
                "id": new_id("ftjob"),
                "run": runs.create(db, **run).id,
                "model": model,
                "start": start_release,
                "training": training_file,
                "validation": validation_file,
                "hyperparameters": dumps(dict(hyperparameters), "hyperparameters"),
                "suffix": suffix,
                "seed": seed,
                "metadata": None if metadata is None else dumps(dict(metadata), "metadata"),
                "now": utcnow(),
            },
        )
    return _job(rows[0])


def get(db: Store, id: str) -> FineTuningJob:
    """Return a job. Raises `NotFound`."""
    row = fetch_one(
        db.read(),
        f"select {_COLUMNS} from fine_tuning_jobs where id = $id",
        {"id": id},
        otherwise=NotFound("fine-tuning job", id),
    )
    return _job(row)


def of_run(db: Store, run: str) -> FineTuningJob | None:
    """Return the job that a run does, None where it does none."""
    row = fetch_first(db.read(), f"select {_COLUMNS} from fine_tuning_jobs where run = $run", {"run": run})
    return _job(row) if row else None


def list_page(
    db: Store, limit: int, after: str | None = None, metadata: Mapping[str, str] | None = None
) -> list[FineTuningJob]:
    """Return up to `limit` jobs, newest first, those older than the job `after`, whose metadata hold all of `metadata`."""
    wanted = dict(metadata or {})
    rows = fetch_all(
        db.read(),
        f"""
        select {_COLUMNS}
        from fine_tuning_jobs
        where ($after is null or id < $after) and ($wanted = '{{}}' or json_contains(metadata, $wanted))
        order by id desc
        limit $limit
        """,
        {"after": after, "wanted": dumps(wanted, "metadata"), "limit": limit},
    )
    return [_job(row) for row in rows]


def waiting_for(db: Store, file: str) -> list[str]:
    """Return the ids of the jobs under way that train on a file or are measured on it."""
    rows = fetch_all(
        db.read(),
        """
        select fine_tuning_jobs.id
        from fine_tuning_jobs
        join runs on runs.id = run
        where $file in (training_file, validation_file) and state in (select unnest($states))
        order by fine_tuning_jobs.id
        """,
        {"file": file, "states": list(RUN_UNDER_WAY)},
    )
    return [row["id"] for row in rows]


def _job(row: Row) -> FineTuningJob:
    return FineTuningJob(
        **{
            **row,
            "hyperparameters": loads(row["hyperparameters"]),
            "metadata": loads(row["metadata"]),
            "created_at": stamp(row["created_at"]),
        }
    )
