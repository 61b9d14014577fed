"""Training runs: what was asked for, where each stands, how it went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from common.training_methods import METHODS
from store.db import validation
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import (
    Row,
    aware,
    check_limit,
    dumps,
    fetch_all,
    fetch_first,
    fetch_one,
    loads,
    stamp,
)
from store.errors import Invalid, NotFound
from store.ids import new_id
from store.rollout.run_states import RUN_FINAL, RUN_UNDER_WAY, RUN_WORKING, check_run_move

Rollout = Literal["none", "canary", "promote"]
GateMode = Literal["enforce", "report"]
Start = Literal["auto", "stable", "base"]
ROLLOUTS: tuple[Rollout, ...] = get_args(Rollout)
GATES: tuple[GateMode, ...] = get_args(GateMode)
STARTS: tuple[Start, ...] = get_args(Start)

_TEXT_FIELDS = ("base", "start_adapter", "snapshot", "adapter", "release", "evaluation")
_JSON_FIELDS = ("gate_decision", "report", "error")
_COUNT_FIELDS = ("step", "total_steps")
# All columns but `cancel_requested`, which nothing has written since a cancellation became a state; the column stays, since
# the schema is read from outside.
_COLUMNS = (
    "id, method, deployment, qlora, params, recipe, rollout, gate, coalesce(no_system_prompt, false) as no_system_prompt, "
    "if(start_auto, 'auto', start_from) as start_from, "
    "requested_by, state, step, total_steps, base, start_adapter, snapshot, adapter, release, evaluation, gate_decision, "
    "report, error, created_at, updated_at, finished_at"
)


@dataclass(frozen=True, slots=True)
class Run(Record):
    """One training run; see store.rollout.run_states for `state`.

    `release` is a release's record id. `start_from` says what training goes on from: `stable` (its adapter,
    where it has one), `base`, or `auto` (what other methods and deployments trained of it: `store.rollout.adapters`).
    """

    id: str
    method: str
    deployment: str
    qlora: bool
    params: dict[str, Any]
    recipe: str | None
    rollout: str
    gate: str
    start_from: str
    requested_by: str | None
    state: str
    step: int
    total_steps: int | None
    base: str | None
    start_adapter: str | None
    snapshot: str | None
    adapter: str | None
    release: str | None
    evaluation: str | None
    gate_decision: dict[str, Any] | None
    report: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    no_system_prompt: bool = False


@dataclass(frozen=True, slots=True)
class RunEvent(Record):
    """One entry of a run's event stream. `kind` is "state" ({from, to, …}) or "metrics" ({step, …})."""

    seq: int
    run: str
    kind: str
    data: dict[str, Any]
    created_at: datetime


def create(
    db: Store,
    method: str,
    deployment: str,
    qlora: bool = False,
    params: Mapping[str, Any] | None = None,
    rollout: str = "none",
    gate: str = "enforce",
    requested_by: str | None = None,
    start_from: str = "auto",
    recipe: str | None = None,
    no_system_prompt: bool = False,
) -> Run:
    """Record a run in state `queued`. `params` and `recipe` are kept as given; align.recipe.recipe judges them.

    The release that it makes has stable's system prompt, unless `no_system_prompt`.
    """
    values = {
        "id": new_id("run"),
        "method": validation.one_of("method", method, METHODS),
        "deployment": validation.deployment_name(deployment),
        "qlora": bool(qlora),
        "params": dumps(validation.json_object("params", params), "params"),
        "rollout": validation.one_of("rollout", rollout, ROLLOUTS),
        "gate": validation.one_of("gate", gate, GATES),
        # The column `start_from` accepts no third value.
        "start_from": "stable"
        if validation.one_of("start_from", start_from, STARTS) == "auto"
        else start_from,
        "start_auto": start_from == "auto",
        "recipe": recipe,
        "no_system_prompt": bool(no_system_prompt),
        "requested_by": requested_by,
        "now": utcnow(),
    }
    with db.atomic() as cursor:
        rows = fetch_all(
            cursor,
            f"""
            insert into runs (id, method, deployment, qlora, params, recipe, rollout, gate, start_from,
                start_auto, no_system_prompt, requested_by, state, created_at, updated_at)
            values ($id, $method, $deployment, $qlora, $params, $recipe, $rollout, $gate, $start_from,
                $start_auto, $no_system_prompt, $requested_by, 'queued', $now, $now)
            returning {_COLUMNS}
            """,
            values,
        )
        _log_transition(cursor, str(values["id"]), None, "queued", {})
    return _run(rows[0])


def get(db: Store, id: str) -> Run:
    """Return a run. Raises `NotFound`."""
    row = fetch_one(
        db.read(), f"select {_COLUMNS} from runs where id = $id", {"id": id}, otherwise=NotFound("run", id)
    )
    return _run(row)


def list_all(db: Store, limit: int = 100, deployment: str | None = None) -> list[Run]:
    """Return the newest runs, newest first."""
    rows = fetch_all(
        db.read(),
        f"""
        select {_COLUMNS}
        from runs
        where $deployment is null or deployment = $deployment
        order by id desc
        limit $limit
        """,
        {"limit": check_limit(limit), "deployment": deployment},
    )
    return [_run(row) for row in rows]


def unfinished(db: Store) -> list[Run]:
    """Return the runs that are under way or whose canary is on, oldest first."""
    rows = fetch_all(
        db.read(),
        f"select {_COLUMNS} from runs where state in (select unnest($states)) order by id",
        {"states": list(RUN_WORKING)},
    )
    return [_run(row) for row in rows]


def under_way(db: Store, deployment: str | None = None) -> list[Run]:
    """Return the runs that go on by themselves, oldest first; a canary that waits for votes is none."""
    rows = fetch_all(
        db.read(),
        f"""
        select {_COLUMNS}
        from runs
        where state in (select unnest($states)) and ($deployment is null or deployment = $deployment)
        order by id
        """,
        {"states": list(RUN_UNDER_WAY), "deployment": deployment},
    )
    return [_run(row) for row in rows]


def of_snapshots(db: Store, snapshots: Iterable[str]) -> list[str]:
    """Return the ids of the runs that took one of `snapshots`."""
    rows = fetch_all(
        db.read(),
        "select id from runs where snapshot in (select unnest($snapshots::varchar[])) order by id",
        {"snapshots": list(snapshots)},
    )
    return [row["id"] for row in rows]


def move(db: Store, /, id: str, to_state: str, **fields: object) -> Run:
    """Move a run to a state and set fields, in one commit with its entry in the transitions.

    `fields` are among step, total_steps, base, start_adapter, snapshot, adapter, release, evaluation,
    gate_decision, report, error (the last three objects, error also text, kept as its `message`; None
    clears). Entering a working state clears an error that is not set again. Raises `NotFound`, `Conflict` for
    a transition that is not allowed (store.rollout.run_states), `Invalid` for an unknown field or state.
    """
    values = _check_fields(fields)
    with db.atomic() as cursor:
        row = fetch_one(
            cursor, "select state from runs where id = $id", {"id": id}, otherwise=NotFound("run", id)
        )
        check_run_move(id, row["state"], to_state)
        now = utcnow()
        if to_state in RUN_WORKING:
            values.setdefault("error", None)
        values |= {
            "state": to_state,
            "updated_at": now,
            "finished_at": now if to_state in RUN_FINAL or to_state == "published" else None,
        }
        assigned = ", ".join(f"{name} = ${name}" for name in values)
        rows = fetch_all(
            cursor, f"update runs set {assigned} where id = $id returning {_COLUMNS}", values | {"id": id}
        )
        _log_transition(cursor, id, row["state"], to_state, fields)
    return _run(rows[0])


def update(db: Store, /, id: str, **fields: object) -> Run:
    """Set fields (those of `move`) without a change of state. Raises `NotFound`, `Invalid`."""
    values = _check_fields(fields) | {"updated_at": utcnow()}
    assigned = ", ".join(f"{name} = ${name}" for name in values)
    with db.atomic() as cursor:
        rows = fetch_all(
            cursor, f"update runs set {assigned} where id = $id returning {_COLUMNS}", values | {"id": id}
        )
    if not rows:
        raise NotFound("run", id)
    return _run(rows[0])


def add_metrics(db: Store, id: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Record metrics, one row a step: `step` and numbers by name; the run's own step follows.

    Rows of the same step (training, then evaluation, or a step done again after a restart) are merged, the
    later value wins. Numbers that JSON cannot hold (NaN, infinite) are kept as null. Raises `NotFound`,
    `Invalid`.
    """
    batch: dict[int, dict[str, Any]] = {}
    for row in rows:
        step = validation.whole("step", row.get("step"), 0, 2**31 - 1)
        batch.setdefault(step, {}).update({k: _finite(v) for k, v in row.items() if k != "step"})
    if not batch:
        return
    with db.atomic() as cursor:
        run = get(db, id)
        total = max((m["total_steps"] for m in batch.values() if m.get("total_steps")), default=None)
        known = fetch_all(
            cursor,
            "select step, metrics from run_metrics where run_id = $id and step in (select unnest($steps))",
            {"id": id, "steps": list(batch)},
        )
        for row in known:
            batch[row["step"]] = loads(row["metrics"]) | batch[row["step"]]
        for step, merged in sorted(batch.items()):
            cursor.execute(
                """
                insert into run_metrics (run_id, step, metrics, created_at)
                values ($id, $step, $metrics, $now)
                on conflict (run_id, step) do update set
                    metrics = excluded.metrics, seq = nextval('event_seq'), created_at = excluded.created_at
                """,
                {"id": id, "step": step, "metrics": dumps(merged, "metrics"), "now": utcnow()},
            )
        cursor.execute(
            "update runs set step = $step, total_steps = coalesce($total, total_steps), updated_at = $now "
            "where id = $id",
            {"id": id, "step": max(run.step, max(batch)), "total": total, "now": utcnow()},
        )


def metrics(db: Store, id: str) -> list[dict[str, Any]]:
    """Return a run's metrics in order of steps, each with its `step`. Raises `NotFound`."""
    get(db, id)
    rows = fetch_all(
        db.read(), "select step, metrics from run_metrics where run_id = $id order by step", {"id": id}
    )
    return [{"step": row["step"], **loads(row["metrics"])} for row in rows]


def latest_metrics(db: Store, id: str) -> dict[str, Any]:
    """Return the metrics of a run's newest step with its `step`, empty before the first."""
    row = fetch_first(
        db.read(),
        "select step, metrics from run_metrics where run_id = $id order by step desc limit 1",
        {"id": id},
    )
    return {"step": row["step"], **loads(row["metrics"])} if row else {}


def transitions(db: Store, id: str) -> list[RunEvent]:
    """Return a run's state changes, oldest first."""
    rows = fetch_all(
        db.read(),
        """
        select seq, 'state' as kind, created_at, detail as data, {'from': from_state, 'to': to_state} as extra
        from run_transitions
        where run_id = $id
        order by seq
        """,
        {"id": id},
    )
    return [_event(id, row) for row in rows]


def events(
    db: Store,
    id: str,
    after: int = 0,
    limit: int = 1000,
    before: int | None = None,
    newest_first: bool = False,
) -> list[RunEvent]:
    """Return a run's state changes and metrics above number `after` and below `before`, in order. Raises `NotFound`.

    Metrics of a step that were merged again come back with a new number.
    """
    get(db, id)
    # State changes and metrics share one sequence of numbers.
    rows = fetch_all(
        db.read(),
        f"""
        with happened as (
            select seq, 'state' as kind, created_at, detail as data,
                {{'from': from_state, 'to': to_state, 'step': null}} as extra
            from run_transitions
            where run_id = $id and seq > $after
            union all
            select seq, 'metrics' as kind, created_at, metrics as data,
                {{'from': null, 'to': null, 'step': step}} as extra
            from run_metrics
            where run_id = $id and seq > $after
        )
        select seq, kind, created_at, data, extra
        from happened
        where $before is null or seq < $before
        order by seq {"desc" if newest_first else "asc"}
        limit $limit
        """,
        {"id": id, "after": after, "before": before, "limit": limit},
    )
    return [_event(id, row) for row in rows]


def _log_transition(
    cursor: Cursor, id: str, before: str | None, after: str, detail: Mapping[str, object]
) -> None:
    cursor.execute(
        """
        insert into run_transitions (run_id, from_state, to_state, detail, created_at)
        values ($id, $before, $after, $detail, $now)
        """,
        {
            "id": id,
            "before": before,
            "after": after,
            "detail": dumps({k: v for k, v in detail.items() if k != "report"}, "fields"),
            "now": utcnow(),
        },
    )


def _check_fields(fields: Mapping[str, object]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _TEXT_FIELDS:
            if value is not None and not isinstance(value, str):
                raise Invalid(name, value, "text or null")
            values[name] = value
        elif name in _COUNT_FIELDS:
            values[name] = None if value is None else validation.whole(name, value, 0, 2**31 - 1)
        elif name in _JSON_FIELDS:
            if name == "error" and isinstance(value, str):
                value = {"message": value}
            values[name] = None if value is None else dumps(validation.json_object(name, value), name)
        else:
            raise Invalid("field", name, (*_COUNT_FIELDS, *_TEXT_FIELDS, *_JSON_FIELDS))
    return values


def _event(run: str, row: Row) -> RunEvent:
    keys = ("from", "to") if row["kind"] == "state" else ("step",)
    data = loads(row["data"]) | {key: row["extra"][key] for key in keys}
    return RunEvent(row["seq"], run, row["kind"], data, stamp(row["created_at"]))


def _finite(value: object) -> object:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def _run(row: Row) -> Run:
    return Run(
        **{
            **row,
            "params": loads(row["params"]),
            "gate_decision": loads(row["gate_decision"]),
            "report": loads(row["report"]),
            "error": loads(row["error"]),
            "created_at": stamp(row["created_at"]),
            "updated_at": stamp(row["updated_at"]),
            "finished_at": aware(row["finished_at"]),
        }
    )
