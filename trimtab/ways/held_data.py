"""The rows that prompts are chosen on and judged on: a snapshot's, or requests that an operator gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from align.evaluation.suite import read_rows
from store import values
from store.datasets import snapshots
from store.db.database import Store
from store.errors import Conflict
from store.jobs.job_parts import Part
from store.values import Message
from trimtab import made_heldout
from trimtab.jobs.prompt_parts import PROMPT, Prompts


def newest_snapshot(db: Store, folder: Path, deployment: str) -> str | None:
    """Return the id of the deployment's newest snapshot whose files no erasure deleted.

    One that holds rows out comes before newer ones that hold out none.
    """
    found = [row for row in snapshots.list_all(db) if row.deployment == deployment]
    found.sort(key=lambda row: (row.heldout_rows > 0, row.created_at), reverse=True)
    return next((row.id for row in found if (folder / row.id / "heldout.parquet").is_file()), None)


def heldout_rows(db: Store, folder: Path, snapshot: str) -> list[dict[str, Any]]:
    """Return a snapshot's held-out rows, else the prompts without answers that were kept out of its made rows."""
    rows = snapshot_rows(folder, snapshot, "heldout")
    kept = None if rows else made_heldout.of_snapshot(db, snapshot)
    return rows if kept is None else [dict(row) for row in kept.rows]


def snapshot_rows(folder: Path, snapshot: str, part: str) -> list[dict[str, Any]]:
    """Return the rows of a snapshot's part, `train` or `heldout`; none where that part has none.

    Raises `Conflict` where an erasure has deleted its files.
    """
    file = folder / snapshot / f"{part}.parquet"
    if not file.is_file():
        raise Conflict(
            f"snapshot {snapshot} is gone, since somebody whose words it held was erased; ask again"
        )
    return read_rows(file) if pq.read_metadata(file).num_rows else []


def request_parts(requests: Sequence[str]) -> tuple[str, list[Part]]:
    """Return the hash of an operator's requests, and the parts of a job that hold them.

    Each has the hash of its prompt, so that an erasure of whoever asked it reaches it.
    """
    prompts = Prompts(tuple(((Message("user", text),), ()) for text in requests))
    parts = [
        Part(f"{PROMPT}{place:05}", values.to_json(prompt), values.conversation_hash(prompt))
        for place, (prompt, _) in enumerate(prompts.rows)
    ]
    return prompts.sha256, parts


def rows_of_prompts(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return rows without answers of the requests that a job keeps."""
    return [{"prompt": value} for _, value in sorted(parts.items())]
