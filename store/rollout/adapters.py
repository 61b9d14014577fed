"""Immutable LoRA adapters: what is known of each directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from store.db.database import Store
from store.db.record import Record
from store.db.rows import Row, dumps, fetch_all, fetch_first, fetch_one, loads, naive, stamp
from store.errors import Conflict, NotFound

_COLUMNS = "id, base, path, rank, bytes, target_modules, run, start_adapter, parity, created_by, created_at"


@dataclass(frozen=True, slots=True)
class AdapterRecord(Record):
    """One immutable adapter.

    `hash` is its id (`a-…`). `start_adapter` is the adapter its training began from.
    """

    hash: str
    base: str
    path: str
    rank: int | None = None
    bytes: int | None = None
    target_modules: tuple[str, ...] = ()
    run: str | None = None
    start_adapter: str | None = None
    parity: dict[str, Any] | None = None
    created_by: str | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def id(self) -> str:
        """The content hash."""
        return self.hash


def record(db: Store, adapter: AdapterRecord) -> AdapterRecord:
    """Record an adapter and return what is stored.

    One that is known already keeps its origin (run, start adapter, time) and takes the new path and parity.
    Raises `Conflict` where the same content is known for another base.
    """
    with db.atomic() as cursor:
        known = fetch_first(cursor, "select base from adapters where id = $id", {"id": adapter.hash})
        if known and known["base"] != adapter.base:
            raise Conflict(
                f"adapter {adapter.hash} belongs to base model {known['base']}, not {adapter.base}"
            )
        rows = fetch_all(
            cursor,
            f"""
            insert into adapters ({_COLUMNS})
            values ($id, $base, $path, $rank, $bytes, $target_modules, $run, $start_adapter, $parity, $by,
            $now) on conflict (id) do update set
                path = excluded.path,
                parity = coalesce(excluded.parity, adapters.parity),
                run = coalesce(adapters.run, excluded.run),
                start_adapter = coalesce(adapters.start_adapter, excluded.start_adapter)
            returning {_COLUMNS}
            """,
            {
                "id": adapter.hash,
                "base": adapter.base,
                "path": str(adapter.path),
                "rank": adapter.rank,
                "bytes": adapter.bytes,
                "target_modules": list(adapter.target_modules),
                "run": adapter.run,
                "start_adapter": adapter.start_adapter,
                "parity": dumps(adapter.parity, "parity"),
                "by": adapter.created_by,
                "now": naive(adapter.created_at),
            },
        )
    return _adapter(rows[0])


def get(db: Store, hash: str) -> AdapterRecord:
    """Return an adapter. Raises `NotFound`."""
    row = fetch_one(
        db.read(),
        f"select {_COLUMNS} from adapters where id = $id",
        {"id": hash},
        otherwise=NotFound("adapter", hash),
    )
    return _adapter(row)


def list_all(db: Store) -> list[AdapterRecord]:
    """Return every adapter, newest first."""
    rows = fetch_all(db.read(), f"select {_COLUMNS} from adapters order by created_at desc, id")
    return [_adapter(row) for row in rows]


def _adapter(row: Row) -> AdapterRecord:
    return AdapterRecord(
        hash=row["id"],
        base=row["base"],
        path=row["path"],
        rank=row["rank"],
        bytes=row["bytes"],
        target_modules=tuple(row["target_modules"]),
        run=row["run"],
        start_adapter=row["start_adapter"],
        parity=loads(row["parity"]),
        created_by=row["created_by"],
        created_at=stamp(row["created_at"]),
    )


def before_method(db: Store, adapter: str | None, method: str, deployment: str) -> str | None:
    """Return the adapter itself or its nearest ancestor that no run of `method` for `deployment` made; None is the base.

    The run of a fine-tuning job is none of the deployment's: its rows would not come again.
    """
    row = fetch_first(
        db.read(),
        """
        select ancestor
        from adapter_ancestry as line
        join adapters on adapters.id = line.ancestor
        left join runs on runs.id = adapters.run
        where line.adapter = $adapter
            and not coalesce(
                runs.method = $method and runs.deployment = $deployment
                and runs.id not in (select run from fine_tuning_jobs),
                false
            )
        order by depth
        limit 1
        """,
        {"adapter": adapter, "method": method, "deployment": deployment},
    )
    return row["ancestor"] if row else None
