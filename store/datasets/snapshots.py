"""Frozen, content-addressed Parquet datasets, split into train and held-out by conversation, never by row.

A snapshot reads and records with a cursor and transaction of its own: voting goes on meanwhile, and what arrives after
it began is not in it. Its directory appears whole, by a rename; only then is it recorded. Snapshots and erasures take
turns, so that none freezes what another deletes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from common.training_methods import METHODS
from store.accounts.sharing import Share
from store.datasets import data_report, parquet_writer, selection, snapshot_settings
from store.datasets.scope import Scope
from store.datasets.snapshot_settings import SnapshotSettings
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import Row, dumps, fetch_all, fetch_first, fetch_one, loads, scalar, stamp
from store.errors import Invalid, NotFound
from store.ids import new_id
from store.near_duplicates import index as near

_COLUMNS = (
    "id, deployment, method, directory, settings, report, train_rows, heldout_rows, last_seq, created_at"
)
_FILES = ("train.parquet", "heldout.parquet", "report.md", "snapshot.json")
_TABLES = {"dpo": "pairs", "sft": "demonstrations", "kto": "likes"}
_FILE_COLUMNS = {
    "dpo": "pairs.id as pair_id, prompt, chosen, rejected, members.weight, chosen_finish_reason, rejected_finish_reason",
    "sft": "demonstrations.id as demo_id, prompt, completion, members.weight, completion_finish_reason",
    "kto": "likes.id as like_id, prompt, completion, liked as label, members.weight, completion_finish_reason",
}
# What the release that answered put before the prompt; null where it is unknown.
_CONTEXT = """
case when {table}.release is null or (releases.id is null and {table}.release <> '') then null
    when system_prompt is null or system_prompt = '' then []::struct(role varchar, content varchar)[]
    else [struct_pack(role := 'system', content := system_prompt)]
end as context
"""
# What that release fixes of the chat template, as JSON; null where the release is unknown.
_TEMPLATE_KWARGS = """
case when {table}.release is null or (releases.id is null and {table}.release <> '') then null
    else coalesce((sampling -> '$.chat_template_kwargs')::varchar, '{{}}')
end as chat_template_kwargs
"""
# What a row is trained on besides its texts; null where nothing is known, as of imports.
_ORIGINS = {
    "dpo": ("release", "chosen_finish_reason", "rejected_finish_reason"),
    "sft": ("release", "completion_finish_reason"),
    "kto": ("release", "completion_finish_reason"),
}


@dataclass(frozen=True, slots=True)
class Snapshot(Record):
    """A frozen dataset.

    `hash` is its id (`s-…`), `directory` holds its files, `last_seq` the newest row it saw.
    """

    hash: str
    deployment: str
    method: str
    directory: str
    settings: dict[str, Any]
    report: dict[str, Any]
    train_rows: int
    heldout_rows: int
    last_seq: int
    created_at: datetime

    @property
    def id(self) -> str:
        """The content hash."""
        return self.hash


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

    Writes `directory/<hash>/` with train.parquet, heldout.parquet, report.md and snapshot.json. The same rows, deployment
    and settings give the same hash, and then the same directory. Other settings:
    store.datasets.snapshot_settings. `on_phase` is called with the name of each phase. Raises `Invalid` for a bad setting
    and where no row is left to train on.
    """
    checked = snapshot_settings.read({"heldout_fraction": heldout_fraction, "seed": seed, **settings})
    if method not in METHODS:
        raise Invalid("method", method, METHODS)
    scope = Scope.of_deployment(deployment)
    return _frozen(db, Path(directory), deployment, method, scope, checked, on_phase or (lambda phase: None))


def build_of_file(
    db: Store, directory: str | Path, training_file: str, method: str, validation_file: str | None = None
) -> Snapshot:
    """Freeze every row of an uploaded file, with those of another as the held-out ones, and return the snapshot.

    A row that is in both files is trained on. `Snapshot.deployment` is the training file's id. Raises `Invalid` where no
    row is left to train on.
    """
    settings = snapshot_settings.read(
        {"heldout_fraction": 0.0, "heldout_clusters": 0, "near_duplicates": None}
    )
    scope = Scope.of_files(training_file, validation_file)
    return _frozen(db, Path(directory), training_file, method, scope, settings, lambda phase: None)


def _frozen(
    db: Store,
    directory: Path,
    deployment: str,
    method: str,
    scope: Scope,
    settings: SnapshotSettings,
    tell: Callable[[str], None],
) -> Snapshot:
    with db.long_work:
        if settings.near_duplicates is not None:
            tell("looking for near duplicates")
            near.refresh(db, _TABLES[method])
        cursor = db.cursor()
        try:
            cursor.execute("begin")
            return _build(cursor, directory, deployment, method, scope, settings, db.share, tell)
        finally:
            cursor.close()


def _build(
    cursor: Cursor,
    directory: Path,
    deployment: str,
    method: str,
    scope: Scope,
    settings: SnapshotSettings,
    share: Share,
    tell: Callable[[str], None],
) -> Snapshot:
    tell("selecting")
    last_seq, seen_seq = _bounds(cursor, deployment, method, scope)
    _groups(cursor, method, settings)
    selection.pick(cursor, method, scope, last_seq, seen_seq, settings, share)
    if not scalar(cursor, "select count(*) from members where split = 'train'"):
        raise Invalid(
            _TABLES[method],
            0,
            f"at least one row for {deployment} to train on that the settings leave: vote on comparisons or import",
        )
    id = _vacant(cursor, _content_id(cursor, deployment, method, settings), method)
    report = data_report.measure(cursor, method, deployment)
    home, staging = directory / id, directory / f".{new_id('snap')}"
    facts = {
        "hash": id,
        "deployment": deployment,
        "method": method,
        "settings": settings.to_json(),
        "report": report,
    }
    texts = data_report.sample(cursor, _TABLES[method])
    try:
        # Loading what tells languages takes half a second of one core; writing does not use both of two all the time.
        with ThreadPoolExecutor(1) as aside:
            languages = aside.submit(data_report.languages, texts)
            if missing := not all((home / name).exists() for name in _FILES):
                tell("writing")
                staging.mkdir(parents=True)
                _write_rows(cursor, staging, method)
            report["languages"] = languages.result()
        if missing:
            (staging / "report.md").write_text(data_report.to_markdown(facts), "utf-8")
            (staging / "snapshot.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False), "utf-8")
            shutil.rmtree(home, ignore_errors=True)
            staging.rename(home)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    tell("recording")
    return _record(cursor, id, deployment, method, home, settings, report, last_seq)


def get(db: Store, hash: str) -> Snapshot:
    """Return a snapshot. Raises `NotFound`."""
    row = fetch_one(
        db.read(),
        f"select {_COLUMNS} from snapshots where id = $id",
        {"id": hash},
        otherwise=NotFound("snapshot", hash),
    )
    return _snapshot(row)


def list_all(db: Store) -> list[Snapshot]:
    """Return every snapshot, newest first."""
    rows = fetch_all(db.read(), f"select {_COLUMNS} from snapshots order by created_at desc, id")
    return [_snapshot(row) for row in rows]


def _bounds(cursor: Cursor, deployment: str, method: str, scope: Scope) -> tuple[int, int]:
    """Return the newest row's number, and the newest that a snapshot before that row saw.

    A snapshot that saw all there is does not count as earlier: building it again gives the same.
    """
    last = int(
        scalar(
            cursor,
            f"select coalesce(max(seq), 0) from {_TABLES[method]} where deployment in (select unnest($scope::varchar[]))",
            {"scope": list(scope.names)},
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


def _groups(cursor: Cursor, method: str, settings: SnapshotSettings) -> None:
    near.groups(cursor, _TABLES[method], settings.near_duplicates)


def _vacant(cursor: Cursor, id: str, method: str) -> str:
    """Return `id`, or the next that follows from it where a snapshot of that id holds rows that are gone.

    Rows go by erasure, or when who liked an answer takes that back. What learned from them stays listed under the old id;
    rows of the same content that came since are other people's.
    """
    gone = f"""
        select count(*)
        from snapshot_members
        anti join {_TABLES[method]} as alive on alive.id = item_id
        where snapshot_id = $id
        """
    known = "select id from snapshots where id = $id"
    while fetch_first(cursor, known, {"id": id}) and scalar(cursor, gone, {"id": id}):
        id = _id(hashlib.sha256(id.encode()))
    return id


def _content_id(cursor: Cursor, deployment: str, method: str, settings: SnapshotSettings) -> str:
    """Return `s-` and the first 32 hex digits of the SHA-256 of deployment, method, settings and sorted members.

    Hashes, sides and weights are digested as three columns, since a million rows as one text took a second more, and what is
    known of where rows come from as a fourth.
    """
    columns = [hashlib.sha256() for _ in range(3)]
    members = cursor.sql(
        """
        select content_hash, (split = 'train')::utinyint as train, round(weight * 1e9)::bigint as weight
        from members
        order by content_hash
        """
    )
    for batch in members.to_arrow_reader(100_000):
        hashes, train, weight = batch.columns
        columns[0].update(hashes.buffers()[2][: 64 * len(hashes)])
        columns[1].update(train.to_numpy().tobytes())
        columns[2].update(weight.to_numpy().astype("<i8").tobytes())
    known = _ORIGINS[method]
    # Each row as a number, and their sum, which needs no order.
    rows, total = fetch_all(
        cursor,
        f"""
        select count(*) as n, sum(md5_number_lower(
            concat_ws('|', members.content_hash, {", ".join(f"coalesce({name}, '?')" for name in known)})
        )) as total
        from members
        join {_TABLES[method]} using (seq)
        where coalesce({", ".join(known)}) is not null
        """,
    )[0].values()
    if rows:
        columns.append(hashlib.sha256(f"{rows} {total}".encode()))
    frame = json.dumps([deployment, method, settings.to_json()], sort_keys=True)
    return _id(hashlib.sha256(frame.encode() + b"".join(column.digest() for column in columns)))


def _id(digest: hashlib._Hash) -> str:
    return f"s-{digest.hexdigest()[:32]}"


def _write_rows(cursor: Cursor, staging: Path, method: str) -> None:
    table = _TABLES[method]
    members = f"{table} join members on members.seq = {table}.seq"
    release = ", ".join(column.format(table=table) for column in (_CONTEXT, _TEMPLATE_KWARGS))
    columns = f"{_FILE_COLUMNS[method]}, {release}, cluster::varchar as cluster"
    if scalar(cursor, f"select count(*) from {members} where carried is not null"):
        columns += ", carried"  # only where a message carries more than role and text
    rows = cursor.sql(
        f"select {columns}, split from {members} left join releases on releases.id = {table}.release"
    )
    paths = {split: staging / f"{split}.parquet" for split in ("train", "heldout")}
    parquet_writer.write(paths, rows.to_arrow_reader(parquet_writer.BATCH))


def _record(
    cursor: Cursor,
    id: str,
    deployment: str,
    method: str,
    home: Path,
    settings: SnapshotSettings,
    report: dict[str, Any],
    last_seq: int,
) -> Snapshot:
    """Record the snapshot and its members and commit; no other writer touches these two tables meanwhile."""
    if not fetch_first(cursor, "select id from snapshots where id = $id", {"id": id}):
        cursor.execute(
            f"""
            insert into snapshot_members
            select $id, id, split, members.weight from members join {_TABLES[method]} using (seq)
            """,
            {"id": id},
        )
    rows = fetch_all(
        cursor,
        f"""
        insert into snapshots ({_COLUMNS})
        values ($id, $deployment, $method, $directory, $settings, $report, $train, $heldout, $last_seq, $now)
        on conflict (id) do update set
            last_seq = greatest(snapshots.last_seq, excluded.last_seq), directory = excluded.directory
        returning {_COLUMNS}
        """,
        {
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
        },
    )
    cursor.execute("commit")
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
