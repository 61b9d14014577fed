"""Releases: immutable, numbered within their deployment, addressed as `assistant@3` or by record id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.db import validation
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import Row, dumps, fetch_all, fetch_first, fetch_one, loads, scalar, stamp
from store.errors import Conflict, NotFound
from store.ids import new_id
from store.rollout import chat_template_kwargs

_COLUMNS = "id, deployment, number, base, adapter, system_prompt, sampling, run, created_by, created_at"


@dataclass(frozen=True, slots=True)
class Release(Record):
    """Base model, adapter or none, system prompt or none, sampling defaults; numbered in its deployment.

    `sampling` also holds what the release fixes of the chat template (`store.rollout.chat_template_kwargs`).
    """

    id: str
    deployment: str
    number: int
    base: str
    adapter: str | None
    system_prompt: str | None
    sampling: dict[str, Any]
    run: str | None
    created_by: str | None
    created_at: datetime

    @property
    def ref(self) -> str:
        """The public name, such as `assistant@3`."""
        return f"{self.deployment}@{self.number}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields and `ref`."""
        return Record.to_json(self) | {"ref": self.ref}


def create(
    db: Store,
    deployment: str,
    base: str,
    adapter: str | None = None,
    system_prompt: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    run: str | None = None,
    created_by: str | None = None,
) -> Release:
    """Make the deployment's next release and return it.

    Raises `NotFound` for an unknown adapter, `Conflict` where the adapter belongs to another base. Made for a
    `run` that has a release already (its step is done again), it returns that release.
    """
    with db.atomic() as cursor:
        if run is not None:
            made = fetch_first(
                cursor,
                f"select {_COLUMNS} from releases where run = $run and deployment = $deployment and "
                "adapter is not distinct from $adapter",
                {"run": run, "deployment": deployment, "adapter": adapter},
            )
            if made:
                return _release(made)
        if adapter is not None:
            known = fetch_one(
                cursor,
                "select base from adapters where id = $id",
                {"id": adapter},
                otherwise=NotFound("adapter", adapter),
            )
            if known["base"] != base:
                raise Conflict(f"adapter {adapter} belongs to base model {known['base']}, not {base}")
        return insert(cursor, deployment, base, adapter, system_prompt, sampling, run, created_by)


def insert(
    cursor: Cursor,
    deployment: str,
    base: str,
    adapter: str | None = None,
    system_prompt: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    run: str | None = None,
    created_by: str | None = None,
) -> Release:
    """Insert a release within a transaction; the number is one above the deployment's highest."""
    rows = fetch_all(
        cursor,
        f"""
        insert into releases ({_COLUMNS})
        select $id, $deployment, coalesce(max(number), 0) + 1, $base, $adapter, $system_prompt, $sampling,
            $run, $by, $now
        from releases
        where deployment = $deployment
        returning {_COLUMNS}
        """,
        {
            "id": new_id("rel"),
            "deployment": validation.deployment_name(deployment),
            "base": validation.text("base", base, 1000),
            "adapter": adapter,
            "system_prompt": None
            if system_prompt is None
            else validation.text("system_prompt", system_prompt),
            "sampling": dumps(_defaults(sampling), "sampling"),
            "run": run,
            "by": created_by,
            "now": utcnow(),
        },
    )
    return _release(rows[0])


def get(db: Store, ref: str) -> Release:
    """Return a release by `deployment@number` or record id. Raises `NotFound`."""
    name, at, number = ref.rpartition("@")
    where = "id = $id"
    params: dict[str, object] = {"id": ref}
    if at:
        known = number.isascii() and number.isdigit() and len(number) < 10
        where = "deployment = $name and number = $number"
        params = {"name": name, "number": int(number) if known else None}
    row = fetch_one(
        db.read(),
        f"select {_COLUMNS} from releases where {where}",
        params,
        otherwise=NotFound("release", ref),
    )
    return _release(row)


def refs(db: Store, ids: Iterable[str | None]) -> dict[str, str]:
    """Return the public names of releases by record id, without those that are unknown or None."""
    rows = fetch_all(
        db.read(),
        "select id, deployment || '@' || number as ref from releases where list_contains($ids::varchar[], id)",
        {"ids": [id for id in ids if id is not None]},
    )
    return {row["id"]: row["ref"] for row in rows}


def list_all(db: Store, deployment: str | None = None) -> list[Release]:
    """Return the releases of one deployment or of all, newest first."""
    rows = fetch_all(
        db.read(),
        f"""
        select {_COLUMNS}
        from releases
        where $deployment is null or deployment = $deployment
        order by deployment, number desc
        """,
        {"deployment": deployment},
    )
    return [_release(row) for row in rows]


def for_run(db: Store, run: str) -> Release | None:
    """Return the release that a run made, or None."""
    row = fetch_first(db.read(), f"select {_COLUMNS} from releases where run = $run", {"run": run})
    return None if row is None else _release(row)


def count(db: Store, deployment: str) -> int:
    """Return how many releases a deployment has."""
    return int(scalar(db.read(), "select count(*) from releases where deployment = $d", {"d": deployment}))


def _defaults(sampling: object) -> dict[str, Any]:
    """Return the sampling defaults, checked; arguments of the chat template that are empty are left out."""
    found = validation.json_object("sampling", sampling)
    return chat_template_kwargs.joined(found, chat_template_kwargs.check(found.get(chat_template_kwargs.KEY)))


def _release(row: Row) -> Release:
    return Release(**{**row, "sampling": loads(row["sampling"]), "created_at": stamp(row["created_at"])})
