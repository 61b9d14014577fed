"""Backups: one DuckDB file, made while the platform runs, checked before it is trusted.

A backup is a copy in one transaction, so it is the store at one instant; voting goes on meanwhile. It is written
anew, not block by block, so it is compact and holds nothing that was erased. Not covered: adapters, models and the
Parquet files of snapshots, which lie beside the store.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from common.files import sha256_file
from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import scalar, stamp
from store.errors import Conflict, NotFound, StoreDamaged, StoreTooNew
from store.ids import new_id
from store.maintenance.verify import verify

NOUNS = ("users", "conversations", "comparisons", "votes", "pairs", "demonstrations", "runs", "releases")


@dataclass(frozen=True, slots=True)
class Backup(Record):
    """A backup file: size in bytes, SHA-256 of the file, schema version and rows by noun."""

    path: str
    bytes: int
    sha256: str
    version: int
    rows: dict[str, int]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Restored(Record):
    """A restored store: where it is, where the one that was there went (None where there was none), rows by noun."""

    path: str
    kept: str | None
    version: int
    rows: dict[str, int]


def write(db: Store, path: str | Path, on_phase: Callable[[str], None] | None = None) -> Backup:
    """Write a backup to `path` and check it; the file appears there whole or not at all.

    Raises `Conflict` where `path` exists, `StoreDamaged` where the store can't be read or its copy does not verify.
    """
    tell = on_phase or (lambda phase: None)
    path = Path(path).absolute()
    if path.exists():
        raise Conflict(f"{path} exists; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{new_id('backup')}")
    try:
        tell("copying")
        with db.guarded():
            _copy(db, staging)
        tell("checking")
        rows, version = _checked(staging, db.path, "No backup was written. An earlier one may be whole.")
        made = Backup(str(path), staging.stat().st_size, sha256_file(staging), version, rows, stamp(utcnow()))
        staging.rename(path)
        _sync(path.parent)
        return made
    finally:
        _discard(staging)


def restore(backup: str | Path, path: str | Path, on_phase: Callable[[str], None] | None = None) -> Restored:
    """Check a backup, then put a copy of it in the place of the store at `path`; the old file is kept beside it.

    Raises `NotFound` for a missing backup, `StoreDamaged` or `StoreTooNew` for one that cannot be trusted, and
    `StoreLocked` where a platform owns the store; nothing is changed then. A damaged store may be replaced.
    """
    tell = on_phase or (lambda phase: None)
    backup, path = Path(backup).absolute(), Path(path).absolute()
    if not backup.is_file():
        raise NotFound("backup", str(backup))
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{new_id('restore')}")
    try:
        tell("copying")
        shutil.copyfile(backup, staging)
        tell("checking")
        untouched = f"{path} is as it was" if path.exists() else f"nothing was put at {path}"
        rows, version = _checked(
            staging, backup, f"It was not restored, and {untouched}. Choose another backup."
        )
        tell("replacing")
        with Store.owning(path):
            kept = _set_aside(path)
            staging.rename(path)
            _sync(path.parent)
        return Restored(str(path), kept, version, rows)
    finally:
        _discard(staging)


def _copy(db: Store, to: Path) -> None:
    cursor = db.cursor()
    name = "copy_" + new_id("b").replace("-", "_")
    quoted = str(to).replace("'", "''")
    try:
        current = scalar(cursor, "select current_database()")
        cursor.execute(f"attach '{quoted}' as {name}")
        try:
            cursor.execute(f'copy from database "{current}" to {name}')
        finally:
            cursor.execute(f"detach {name}")
    finally:
        cursor.close()


def _checked(staging: Path, original: Path, advice: str) -> tuple[dict[str, int], int]:
    """Open a copy and verify it; return its rows by noun and its schema version.

    Raises `StoreDamaged` or `StoreTooNew`, which name the file that it is a copy of: the copy itself will be gone.
    """
    try:
        with Store.open(staging) as copy:
            if not copy.verified:  # what is verified below is not every column
                copy.verify_blocks()
            with copy.guarded():
                wrong = verify(copy, files=False)
            if wrong:
                first = f"{wrong[0].noun} {wrong[0].id}: {wrong[0].what}"
                raise StoreDamaged(str(staging), f"{len(wrong)} disagreements, the first: {first}.")
            rows, version = _rows(copy), copy.version
    except StoreDamaged as error:
        why = error.why.replace(str(staging), str(original))
        raise StoreDamaged(str(original), why, advice) from error
    except StoreTooNew as error:
        raise StoreTooNew(str(original), error.version, error.known) from error
    _sync(staging)
    return rows, version


def _rows(copy: Store) -> dict[str, int]:
    counts = {}
    for noun in NOUNS:
        counts[noun] = int(scalar(copy.read(), f"select count(*) from {noun}"))
    return counts


def _set_aside(path: Path) -> str | None:
    """Move the store and its write-ahead log to a name that says when; return it."""
    kept = None
    when = f"{utcnow():%Y%m%d-%H%M%S-%f}"
    for old in (path, path.with_name(path.name + ".wal")):
        if old.exists():
            new = old.with_name(
                old.name.replace(path.name, f"{path.stem}.before-restore-{when}{path.suffix}")
            )
            old.rename(new)
            kept = kept or str(new)
    return kept


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(staging: Path) -> None:
    for suffix in ("", ".wal", ".lock"):
        with suppress(FileNotFoundError):
            staging.with_name(staging.name + suffix).unlink()
