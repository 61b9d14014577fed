"""Files of training rows that clients of OpenAI's API uploaded, whole or not at all.

The rows of a file are imported: they are pairs or demonstrations whose `deployment` is the file's id, so that runs of
deployments do not use them. Nothing else of a file is kept; `lines` writes its rows again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from store.accounts import audit
from store.db import redaction, validation
from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import Row, fetch_all, fetch_first, fetch_one, messages, stamp
from store.errors import Conflict, NotFound
from store.ids import new_id
from store.rollout import fine_tuning
from store.training_data import demonstrations, pairs, training_lines
from store.training_data.training_lines import FileKind

FINE_TUNE = "fine-tune"
"""The one purpose that a file may have."""
Order = Literal["asc", "desc"]
ORDERS: tuple[Order, ...] = get_args(Order)

_COLUMNS = "id, filename, purpose, kind, size, row_count, created_by, created_at"
_IMPORTS = {"supervised": demonstrations.import_rows, "dpo": pairs.import_rows}
_PARTS = {"supervised": ("prompt", "completion"), "dpo": ("prompt", "chosen", "rejected")}
_PAGE = 500
MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class UploadedFile(Record):
    """A file: `kind` says what its rows are for, `row_count` counts them without those that occur twice."""

    id: str
    filename: str
    purpose: str
    kind: FileKind
    size: int
    row_count: int
    created_by: str | None
    created_at: datetime


def add(db: Store, path: Path, filename: str, created_by: str | None = None) -> UploadedFile:
    """Import the JSONL file `path` and return its record.

    Raises `Invalid` for a name that is blank or too long, and `training_lines.BadLine` for the first line that is not
    a row of the file's kind; then nothing is stored.
    """
    name = redaction.text(db, validation.text("filename", filename, MAX_NAME))
    kind, _ = training_lines.check(path)
    id = new_id("file")
    values = {
        "id": id,
        "name": name,
        "purpose": FINE_TUNE,
        "kind": kind,
        "size": path.stat().st_size,
        "by": created_by,
        "now": utcnow(),
    }
    with db.atomic() as cursor:
        cursor.execute(
            "insert into uploaded_files values ($id, $name, $purpose, $kind, $size, 0, 'importing', $by, $now)",
            values,
        )
    try:
        done = _IMPORTS[kind](
            db,
            (row for _, row in training_lines.rows(path)),
            name,
            created_by,
            id,
            convert=training_lines.CONVERT[kind],
        )
        with db.atomic() as cursor:
            found = fetch_all(
                cursor,
                f"""
                update uploaded_files set status = 'processed', row_count = $rows
                where id = $id
                returning {_COLUMNS}
                """,
                {"id": id, "rows": done.accepted},
            )
            audit.record(db, created_by, "file.upload", id, {"rows": done.accepted, "kind": kind})
    except BaseException:
        _remove(db, id)
        raise
    return _file(found[0])


def get(db: Store, id: str) -> UploadedFile:
    """Return a file. Raises `NotFound`."""
    row = fetch_one(
        db.read(),
        f"select {_COLUMNS} from uploaded_files where id = $id and status = 'processed'",
        {"id": id},
        otherwise=NotFound("file", id),
    )
    return _file(row)


def list_page(
    db: Store, limit: int, after: str | None = None, order: Order = "desc", purpose: str | None = None
) -> list[UploadedFile]:
    """Return up to `limit` files by time of upload, those after the file `after`."""
    sign = "<" if order == "desc" else ">"
    rows = fetch_all(
        db.read(),
        f"""
        select {_COLUMNS}
        from uploaded_files
        where status = 'processed' and ($after is null or id {sign} $after)
            and ($purpose is null or purpose = $purpose)
        order by id {order}
        limit $limit
        """,
        {"after": after, "limit": limit, "purpose": purpose},
    )
    return [_file(row) for row in rows]


def lines(db: Store, file: UploadedFile) -> Iterator[bytes]:
    """Yield the rows of a file as they are stored, each a line of JSON in OpenAI's form."""
    parts, after = _PARTS[file.kind], -1
    while rows := fetch_all(
        db.read(),
        f"""
        select seq, carried, {", ".join(parts)}
        from {training_lines.TABLES[file.kind]}
        where deployment = $id and seq > $after
        order by seq
        limit $limit
        """,
        {"id": file.id, "after": after, "limit": _PAGE},
    ):
        after = rows[-1]["seq"]
        for row in rows:
            written = [
                [message.to_json() for message in messages(row[part], row["carried"], part)] for part in parts
            ]
            yield json.dumps(_openai_row(*written), ensure_ascii=False).encode() + b"\n"


def delete(db: Store, id: str, actor: str | None = None) -> None:
    """Delete a file with its rows, and record the snapshots that hold them; `erased_files` deletes what these left.

    Raises `NotFound`, and `Conflict` while a job under way needs it.
    """
    with db.long_work, db.atomic() as cursor:
        file = get(db, id)
        if jobs := fine_tuning.waiting_for(db, id):
            raise Conflict(f"file {id} is needed by {', '.join(jobs)}; wait for its end or cancel it")
        held = fetch_all(
            cursor,
            f"""
            select distinct snapshot_id
            from snapshot_members
            where item_id in (select id from {training_lines.TABLES[file.kind]} where deployment = $id)
            order by snapshot_id
            """,
            {"id": id},
        )
        cursor.execute(
            "insert into file_deletions values ($id, $snapshots, $now)",
            {"id": id, "snapshots": [row["snapshot_id"] for row in held], "now": utcnow()},
        )
        _remove(db, id)
        audit.record(db, actor, "file.delete", id, {"rows": file.row_count})


def snapshots_of_deleted(db: Store) -> list[str]:
    """Return the ids of the snapshots that held rows of files that were deleted."""
    rows = fetch_all(db.read(), "select distinct unnest(snapshots) as id from file_deletions order by id")
    return [row["id"] for row in rows]


def delete_unfinished(db: Store) -> None:
    """Delete the files whose upload ended before all their rows were stored; at a start, before any upload."""
    for row in fetch_all(db.read(), "select id from uploaded_files where status = 'importing'"):
        _remove(db, row["id"])


def _remove(db: Store, id: str) -> None:
    with db.atomic() as cursor:
        if not fetch_first(cursor, "select id from uploaded_files where id = $id", {"id": id}):
            return
        for table in training_lines.TABLES.values():
            cursor.execute(f"delete from {table} where deployment = $id", {"id": id})
        cursor.execute("update imports set source = deployment where deployment = $id", {"id": id})
        cursor.execute("delete from uploaded_files where id = $id", {"id": id})


def _openai_row(prompt: list[Any], *answers: list[Any]) -> dict[str, Any]:
    if len(answers) == 1:
        return {"messages": [*prompt, *answers[0]]}
    chosen, rejected = answers
    return {"input": {"messages": prompt}, "preferred_output": chosen, "non_preferred_output": rejected}


def _file(row: Row) -> UploadedFile:
    return UploadedFile(**{**row, "created_at": stamp(row["created_at"])})
