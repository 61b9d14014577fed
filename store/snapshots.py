"""Frozen, content-addressed Parquet datasets, split into train and held-out by prompt, never by row.

A snapshot reads with a cursor and transaction of its own: voting goes on meanwhile, and what arrives after it
began is not in it. Its directory appears whole, by a rename; only then is it recorded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store import data_report, near, selection, snapshot_settings
from store.database import Cursor, Store, utcnow
from store.errors import Invalid, NotFound
from store.ids import new_id
from store.records import Snapshot
from store.rows import Row, dumps, fetch_all, fetch_one, loads, scalar, stamp
from store.snapshot_settings import METHODS, SnapshotSettings

_COLUMNS = (
    "id, deployment, method, directory, settings, report, train_rows, heldout_rows, last_seq, created_at"
)
_TABLES = {"dpo": "pairs", "sft": "demonstrations", "kto": "likes"}
_FILE_COLUMNS = {
    "dpo": "pairs.id as pair_id, prompt, chosen, rejected, members.weight",
    "sft": "demonstrations.id as demo_id, prompt, completion, members.weight",
    "kto": "likes.id as like_id, prompt, completion, liked as label, members.weight",
}


def build(
    db: Store,
    directory: str | Path,
    deployment: str,
    method: str,
    heldout_fraction: float = 0.1,
    seed: int = 0,
    on_phase: Callable[[str], None] | None = None,
    **settings: Any,
) -> Snapshot:
    """Freeze a deployment's rows for `method` ("dpo", "sft" or "kto") and return the snapshot.

    Writes `directory/<hash>/` with train.parquet, heldout.parquet, report.md and, last, snapshot.json. The
    same rows and settings give the same hash, and then the same directory. Other settings:
    store.snapshot_settings. `on_phase` is told what is being done. Raises `Invalid` for a bad setting and
    where no row is left to train on.
    """
    checked = snapshot_settings.read({"heldout_fraction": heldout_fraction, "seed": seed, **settings})
    if method not in METHODS:
        raise Invalid("method", method, METHODS)
    tell = on_phase or (lambda phase: None)
    if checked.near_duplicates is not None:
        tell("looking for near duplicates")
        near.refresh(db, _TABLES[method])
    tell("selecting")
    cursor = db.cursor()
    staging = Path(directory) / f".{new_id('snap')}"
    try:
        cursor.execute("begin")
        last_seq, seen_seq = _bounds(cursor, deployment, method)
        _groups(cursor, checked)
        selection.pick(cursor, method, deployment, last_seq, seen_seq, checked)
        if not scalar(cursor, "select count(*) from members where split = 'train'"):
            raise Invalid(
                _TABLES[method],
                0,
                f"at least one row for {deployment} to train on that the settings leave: vote on comparisons or import",
            )
        id = _content_id(cursor, method, checked)
        report = data_report.measure(cursor, method, deployment)
        home = Path(directory) / id
        if not (home / "snapshot.json").exists():
            tell("writing")
            staging.mkdir(parents=True)
            facts = {
                "hash": id,
                "deployment": deployment,
                "method": method,
                "settings": checked.to_json(),
                "report": report,
            }
            _write(cursor, staging, method, facts)
            shutil.rmtree(home, ignore_errors=True)
            staging.rename(home)
        tell("recording")
        return _record(db, cursor, id, deployment, method, home, checked, report, last_seq)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        cursor.close()


def get(db: Store, hash: str) -> Snapshot:
    """Return a snapshot. Raises `NotFound`."""
    row = fetch_one(db.read(), f"select {_COLUMNS} from snapshots where id = $id", {"id": hash})
    if row is None:
        raise NotFound("snapshot", hash)
    return _snapshot(row)


def list_all(db: Store) -> list[Snapshot]:
    """Return every snapshot, newest first."""
    rows = fetch_all(db.read(), f"select {_COLUMNS} from snapshots order by created_at desc, id")
    return [_snapshot(row) for row in rows]


def _bounds(cursor: Cursor, deployment: str, method: str) -> tuple[int, int]:
    """Return the newest row's number, and the newest that a snapshot before that row saw.

    A snapshot that saw all there is does not count as earlier: building it again gives the same.
    """
    last = int(
        scalar(
            cursor,
            f"select coalesce(max(seq), 0) from {_TABLES[method]} where deployment in ('', $deployment)",
            {"deployment": deployment},
        )
    )
    seen = scalar(
        cursor,
        """
        select coalesce(max(last_seq), 0)
        from snapshots
        where deployment = $deployment and method = $method and last_seq < $last
        """,
        {"deployment": deployment, "method": method, "last": last},
    )
    return last, int(seen)


def _groups(cursor: Cursor, settings: SnapshotSettings) -> None:
    cursor.execute("create or replace temp table prompt_groups (prompt_hash varchar, group_id varchar)")
    cursor.execute("create or replace temp table row_groups (id varchar, group_id varchar)")
    if settings.near_duplicates is not None:
        near.groups(cursor, settings.near_duplicates)


def _content_id(cursor: Cursor, method: str, settings: SnapshotSettings) -> str:
    """Return `s-` and the first 32 hex digits of the SHA-256 of method, settings and sorted members."""
    frame = json.dumps([method, settings.to_json()], sort_keys=True)
    digest = scalar(
        cursor,
        """
        select sha256($frame || string_agg(
            content_hash || ' ' || split || ' ' || round(weight, 9), chr(10) order by content_hash
        ))
        from members
        """,
        {"frame": frame},
    )
    return f"s-{digest[:32]}"


def _write(cursor: Cursor, staging: Path, method: str, facts: dict[str, Any]) -> None:
    table = _TABLES[method]
    for split in ("train", "heldout"):
        cursor.execute(
            f"""
            copy (
                select {_FILE_COLUMNS[method]}
                from {table}
                join members on members.seq = {table}.seq
                where split = $split
            ) to $path (format parquet, compression zstd)
            """,
            {"split": split, "path": str(staging / f"{split}.parquet")},
        )
    (staging / "report.md").write_text(data_report.to_markdown(facts), "utf-8")
    (staging / "snapshot.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False), "utf-8")


def _record(
    db: Store,
    cursor: Cursor,
    id: str,
    deployment: str,
    method: str,
    home: Path,
    settings: SnapshotSettings,
    report: dict[str, Any],
    last_seq: int,
) -> Snapshot:
    members = cursor.sql("select id, split, weight from members").to_arrow_table()
    cursor.execute("rollback")
    values = {
        "id": id,
        "deployment": deployment,
        "method": method,
        "directory": str(home),
        "settings": dumps(settings.to_json(), "settings"),
        "report": dumps(report, "report"),
        "train": report["train_rows"],
        "heldout": report["heldout_rows"],
        "last_seq": last_seq,
        "now": utcnow(),
    }
    with db.atomic() as writer:
        known = fetch_one(writer, "select id from snapshots where id = $id", {"id": id})
        rows = fetch_all(
            writer,
            f"""
            insert into snapshots ({_COLUMNS})
            values ($id, $deployment, $method, $directory, $settings, $report, $train, $heldout, $last_seq,
            $now) on conflict (id) do update set
                last_seq = greatest(snapshots.last_seq, excluded.last_seq), directory = excluded.directory
            returning {_COLUMNS}
            """,
            values,
        )
        if not known:
            writer.register("chosen_members", members)
            writer.execute(
                "insert into snapshot_members select $id, id, split, weight from chosen_members", {"id": id}
            )
            writer.unregister("chosen_members")
    return _snapshot(rows[0])


def _snapshot(row: Row) -> Snapshot:
    return Snapshot(
        hash=row["id"],
        deployment=row["deployment"],
        method=row["method"],
        directory=row["directory"],
        settings=loads(row["settings"]),
        report=loads(row["report"]),
        train_rows=row["train_rows"],
        heldout_rows=row["heldout_rows"],
        last_seq=row["last_seq"],
        created_at=stamp(row["created_at"]),
    )
