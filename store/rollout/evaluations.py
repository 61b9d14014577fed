"""Evaluations of releases: queued, running, done (with a report), failed or cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.db import validation
from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import Row, dumps, fetch_all, fetch_one, loads, stamp
from store.errors import NotFound
from store.ids import new_id
from store.rollout import releases
from store.rollout.run_states import check_evaluation_move

_COLUMNS = "id, release, against, suite, state, requested_by, run, report, error, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Evaluation(Record):
    """One evaluation of a release, at times against another; both are release ids."""

    id: str
    release: str
    against: str | None
    suite: str
    state: str
    requested_by: str | None
    run: str | None
    report: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime


def create(
    db: Store,
    release: str,
    against: str | None = None,
    suite: str = "default",
    requested_by: str | None = None,
    run: str | None = None,
) -> Evaluation:
    """Record an evaluation in state `queued`; releases are given by ref or id. Raises `NotFound`."""
    with db.atomic() as cursor:
        rows = fetch_all(
            cursor,
            f"""
            insert into evaluations ({_COLUMNS})
            values ($id, $release, $against, $suite, 'queued', $by, $run, null, null, $now, $now)
            returning {_COLUMNS}
            """,
            {
                "id": new_id("eval"),
                "release": releases.get(db, release).id,
                "against": None if against is None else releases.get(db, against).id,
                "suite": validation.text("suite", suite, 200),
                "by": requested_by,
                "run": run,
                "now": utcnow(),
            },
        )
    return _evaluation(rows[0])


def move(
    db: Store,
    id: str,
    state: str,
    report: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | str | None = None,
) -> Evaluation:
    """Move an evaluation to a state; a report or error that is not given stays as it was.

    Raises `NotFound`, `Conflict` for a transition that is not allowed, `Invalid` for an unknown state.
    """
    if isinstance(error, str):
        error = {"message": error}
    with db.atomic() as cursor:
        check_evaluation_move(id, get(db, id).state, state)
        rows = fetch_all(
            cursor,
            f"""
            update evaluations
            set state = $state, report = coalesce($report, report), error = coalesce($error, error),
                updated_at = $now
            where id = $id
            returning {_COLUMNS}
            """,
            {
                "id": id,
                "state": state,
                "report": None
                if report is None
                else dumps(validation.json_object("report", report), "report"),
                "error": None if error is None else dumps(validation.json_object("error", error), "error"),
                "now": utcnow(),
            },
        )
    return _evaluation(rows[0])


def get(db: Store, id: str) -> Evaluation:
    """Return an evaluation. Raises `NotFound`."""
    row = fetch_one(
        db.read(),
        f"select {_COLUMNS} from evaluations where id = $id",
        {"id": id},
        otherwise=NotFound("evaluation", id),
    )
    return _evaluation(row)


def list_all(db: Store, release: str | None = None) -> list[Evaluation]:
    """Return the evaluations of one release (ref or id) or of all, newest first."""
    wanted = None if release is None else releases.get(db, release).id
    rows = fetch_all(
        db.read(),
        f"""
        select {_COLUMNS}
        from evaluations
        where $release is null or release = $release
        order by id desc
        """,
        {"release": wanted},
    )
    return [_evaluation(row) for row in rows]


def _evaluation(row: Row) -> Evaluation:
    return Evaluation(
        **{
            **row,
            "report": loads(row["report"]),
            "error": loads(row["error"]),
            "created_at": stamp(row["created_at"]),
            "updated_at": stamp(row["updated_at"]),
        }
    )
