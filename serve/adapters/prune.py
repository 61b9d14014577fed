"""Remove old adapters from the disk: by count or by age, never one that is needed.

Needed are the adapters of every deployment's stable, canary and rollback releases, and of runs that are not finished.
What is removed here makes its old releases answer 503; their records stay.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from serve.adapters.publishing import withdraw
from serve.engine.pool import EnginePool
from store.db.database import Store
from store.rollout import adapters, deployments, releases, runs
from store.rollout.adapters import AdapterRecord

LEFTOVER_S = 3600.0  # a half-placed adapter older than this belongs to nobody


def choose(
    records: Iterable[AdapterRecord],
    needed: Iterable[str],
    keep_last: int | None = None,
    max_age: timedelta | None = None,
    now: datetime | None = None,
) -> list[AdapterRecord]:
    """Return the adapters to remove: beyond the newest `keep_last`, or older than `max_age`; none needed."""
    spared = set(needed)
    limit = None if max_age is None else (now or datetime.now(UTC)) - max_age
    newest = sorted(records, key=lambda record: record.created_at, reverse=True)
    return [
        record
        for place, record in enumerate(newest)
        if record.hash not in spared
        and (
            (keep_last is not None and place >= keep_last)
            or (limit is not None and record.created_at < limit)
        )
    ]


def needed(db: Store) -> set[str]:
    """Return the adapters that deployments may route to now or after a rollback, or that runs work with."""
    known = deployments.list_all(db)
    wanted = {id for d in known for id in (d.stable, d.canary, *d.earlier) if id}
    wanted |= {deployments.anchor(db, d.name).id for d in known}  # evaluations measure against it
    found = {r.adapter for r in releases.list_all(db) if r.id in wanted and r.adapter}
    for run in runs.unfinished(db):
        found |= {name for name in (run.adapter, run.start_adapter) if name}
    return found


async def prune(
    db: Store,
    pool: EnginePool,
    adapters_dir: Path,
    keep_last: int | None = None,
    max_age: timedelta | None = None,
    dry_run: bool = False,
) -> Sequence[str]:
    """Withdraw and delete what `choose` names; returns the names. Leftovers of broken publishing go too.

    With `dry_run` nothing happens. Raises `DrainTimeout` when requests of such an adapter still run.
    """
    found = await asyncio.to_thread(lambda: choose(adapters.list_all(db), needed(db), keep_last, max_age))
    doomed = [record for record in found if (adapters_dir / record.hash).is_dir()]
    gone = []
    for record in doomed:
        if not dry_run:
            if record.hash in await asyncio.to_thread(needed, db):
                continue  # somebody gave it traffic meanwhile
            await withdraw(record.hash, pool, record.base, adapters_dir, drain_timeout_s=60)
        gone.append(record.hash)
    if not dry_run:
        await asyncio.to_thread(delete_leftovers, adapters_dir)
    return gone


def delete_leftovers(adapters_dir: Path) -> None:
    """Delete half-placed and half-deleted adapter directories that are older than an hour."""
    for path in [*adapters_dir.glob(".a-*.part"), *adapters_dir.glob(".a-*.gone")]:
        if time.time() - path.stat().st_mtime > LEFTOVER_S:
            shutil.rmtree(path, ignore_errors=True)
