"""Records of jobs: queued, running, done (with a result), failed or cancelled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from store.db import validation
from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import Row, check_limit, dumps, fetch_all, fetch_first, fetch_one, loads, stamp
from store.errors import NotFound
from store.ids import new_id

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
JOB_STATES: tuple[JobState, ...] = get_args(JobState)
JOB_UNDER_WAY: tuple[JobState, ...] = ("queued", "running")
JOB_RESUMABLE: tuple[JobState, ...] = ("failed", "cancelled")

TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"queued", "running", "failed", "cancelled"}),
    "running": frozenset({"running", "queued", "done", "failed", "cancelled"}),
    "done": frozenset({"done"}),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
}

_COLUMNS = "id, kind, state, params, requested_by, result, error, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Job(Record):
    """One long task; `params` are what it was asked, `result` what it found once it is done."""

    id: str
    kind: str
    state: JobState
    params: dict[str, Any]
    requested_by: str | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime


def create(db: Store, kind: str, params: Mapping[str, Any], requested_by: str | None = None) -> Job:
    """Record a job in state `queued`. Raises `Invalid` for parameters that JSON cannot hold."""
    given = validation.json_object("params", params)
    row = {
        "id": new_id("job"),
        "kind": validation.text("kind", kind, 100),
        "params": dumps(given, "params"),
        "hash": params_hash(given),
        "by": requested_by,
        "now": utcnow(),
    }
    with db.atomic() as cursor:
        rows = fetch_all(
            cursor,
            f"""
            insert into jobs
            values ($id, $kind, 'queued', $params, $hash, $by, null, null, $now, $now)
            returning {_COLUMNS}
            """,
            row,
        )
    return _job(rows[0])


def params_hash(params: Mapping[str, Any]) -> str:
    """Return the hash of parameters, whatever the order of their names."""
    return hashlib.sha256(json.dumps(params, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def unfinished(db: Store, kind: str, params: Mapping[str, Any]) -> Job | None:
    """Return the newest job of these parameters, unless it is done or there is none."""
    row = fetch_first(
        db.read(),
        f"select {_COLUMNS} from jobs where kind = $kind and params_hash = $hash order by id desc limit 1",
        {"kind": kind, "hash": params_hash(params)},
    )
    return None if row is None or row["state"] == "done" else _job(row)


def under_way(db: Store) -> list[Job]:
    """Return the jobs that are queued or running, oldest first."""
    rows = fetch_all(
        db.read(),
        f"select {_COLUMNS} from jobs where list_contains($states, state) order by id",
        {"states": list(JOB_UNDER_WAY)},
    )
    return [_job(row) for row in rows]


def move(
    db: Store,
    id: str,
    state: str,
    result: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
) -> Job:
    """Move a job to a state; the error is the given one or none, a result that is not given stays.

    Raises `NotFound`, `Conflict` for a transition that is not allowed, `Invalid` for an unknown state.
    """
    with db.atomic() as cursor:
        validation.check_move("job", id, get(db, id).state, state, TRANSITIONS)
        rows = fetch_all(
            cursor,
            f"""
            update jobs
            set state = $state, result = coalesce($result, result), error = $error, updated_at = $now
            where id = $id
            returning {_COLUMNS}
            """,
            {
                "id": id,
                "state": state,
                "result": None if result is None else dumps(dict(result), "result"),
                "error": None if error is None else dumps(dict(error), "error"),
                "now": utcnow(),
            },
        )
    return _job(rows[0])


def get(db: Store, id: str) -> Job:
    """Return a job. Raises `NotFound`."""
    row = fetch_one(
        db.read(),
        f"select {_COLUMNS} from jobs where id = $id",
        {"id": id},
        otherwise=NotFound("job", id),
    )
    return _job(row)


def list_all(db: Store, kind: str | None = None, limit: int = 100) -> list[Job]:
    """Return the newest jobs, of one kind or of all."""
    rows = fetch_all(
        db.read(),
        f"select {_COLUMNS} from jobs where $kind is null or kind = $kind order by id desc limit $limit",
        {"kind": kind, "limit": check_limit(limit)},
    )
    return [_job(row) for row in rows]


def _job(row: Row) -> Job:
    return Job(
        **{
            **row,
            "params": loads(row["params"]),
            "result": loads(row["result"]),
            "error": loads(row["error"]),
            "created_at": stamp(row["created_at"]),
            "updated_at": stamp(row["updated_at"]),
        }
    )
