"""Demonstrations: from rewrites and liked answers, or imported. A content hash occurs once per deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa

from store.db import bulk, listing
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import Row, messages, stamp
from store.ids import new_id, next_ids
from store.training_data import batch_import, evidence
from store.training_data.import_sink import Kind
from store.training_data.origin import UNKNOWN, Origin
from store.values import Demonstration

_COLUMNS = "id, prompt, completion, carried, tags, content_hash, deployment, source, created_at"


@dataclass(frozen=True, slots=True)
class DemonstrationRecord(Record):
    """A stored demonstration.

    `deployment` None means every deployment; `source` is rewrite, like, an import's, or that of a made row.
    """

    id: str
    demonstration: Demonstration
    content_hash: str
    deployment: str | None
    source: str
    created_at: datetime


def insert(
    cursor: Cursor, values: Sequence[Demonstration], scope: str, source: str, import_id: str | None
) -> None:
    """Insert demonstrations within a transaction. Raises `duckdb.ConstraintException` where one is there already."""
    columns: dict[str, Any] = {
        "id": next_ids("demo", len(values)),
        "content_hash": [value.content_hash for value in values],
        "prompt_hash": [value.prompt_hash for value in values],
        "prompt": bulk.message_rows([value.prompt for value in values]),
        "completion": bulk.message_rows([value.completion for value in values]),
        **bulk.carrying(
            {
                "prompt": [value.prompt for value in values],
                "completion": [value.completion for value in values],
            }
        ),
        "prompt_chars": [bulk.characters(value.prompt) for value in values],
        "completion_chars": [bulk.characters(value.completion) for value in values],
        "tags": pa.array([list(value.tags) for value in values], bulk.TEXTS),
        "deployment": [scope] * len(values),
        "source": [source] * len(values),
        "import_id": pa.array([import_id] * len(values), pa.string()),
        "created_at": pa.array([utcnow()] * len(values), pa.timestamp("us")),
    }
    bulk.insert(cursor, "demonstrations", columns)


KIND = Kind("demonstrations", Demonstration.from_json, insert)
"""How demonstrations are imported."""

# Rows `{messages|prompt, completion, tags?}`, or `{messages}` ending with the answer to learn.
import_rows = partial(batch_import.import_rows, KIND)


def derived(value: Demonstration, deployment: str | None, kind: str, origin: Origin = UNKNOWN) -> Row:
    """Return the row of a demonstration that a rewrite or like gives rise to."""
    return {
        "id": new_id("demo"),
        "content_hash": value.content_hash,
        "prompt_hash": value.prompt_hash,
        "prompt": bulk.plain(value.prompt),
        "completion": bulk.plain(value.completion),
        **bulk.carrying_row({"prompt": value.prompt, "completion": value.completion}),
        "prompt_chars": bulk.characters(value.prompt),
        "completion_chars": bulk.characters(value.completion),
        "tags": list(value.tags),
        "deployment": deployment or "",
        "release": origin.release,
        "completion_finish_reason": origin.finish_reason,
        "source": kind,
        "created_at": utcnow(),
    }


def derive(
    cursor: Cursor,
    value: Demonstration,
    deployment: str | None,
    kind: str,
    ref: str,
    person: str | None,
    origin: Origin = UNKNOWN,
) -> str:
    """Add a demonstration that a rewrite or like gives rise to, with its evidence, within a transaction."""
    id = bulk.insert_once(cursor, "demonstrations", derived(value, deployment, kind, origin))
    evidence.add(cursor, id, kind, ref, person)
    return id


def withdraw(cursor: Cursor, kind: str, ref: str) -> None:
    """Take back what a like supported, unless something else supports it too."""
    evidence.withdraw(cursor, "demonstrations", kind, ref)


def stats(db: Store) -> dict[str, Any]:
    """Return total, prompts, by_source, by_deployment, by_tag, mean_prompt_chars, mean_completion_chars."""
    return _LISTING.stats(
        db, "avg(prompt_chars) as mean_prompt_chars, avg(completion_chars) as mean_completion_chars"
    )


def _record(row: Row) -> DemonstrationRecord:
    value = Demonstration(
        prompt=messages(row["prompt"], row["carried"], "prompt"),
        completion=messages(row["completion"], row["carried"], "completion"),
        tags=tuple(row["tags"]),
    )
    return DemonstrationRecord(
        id=row["id"],
        demonstration=value,
        content_hash=row["content_hash"],
        deployment=row["deployment"] or None,
        source=row["source"],
        created_at=stamp(row["created_at"]),
    )


_LISTING = listing.Listing("demonstration", "demonstrations", _COLUMNS, _record)
list_page, get = _LISTING.page, _LISTING.get
count = _LISTING.count
