"""Preference pairs: derived from votes and rewrites, or imported. A content hash occurs once per deployment."""

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
from store.training_data import batch_import
from store.training_data.import_sink import Kind
from store.values import PreferencePair

_COLUMNS = "id, prompt, chosen, rejected, carried, weight, tags, content_hash, deployment, source, created_at"


@dataclass(frozen=True, slots=True)
class PairRecord(Record):
    """A stored preference pair.

    `deployment` None means every deployment; `source` is vote, rewrite, an import's, or that of a made row.
    """

    id: str
    pair: PreferencePair
    content_hash: str
    deployment: str | None
    source: str
    created_at: datetime


def insert(
    cursor: Cursor, pairs: Sequence[PreferencePair], scope: str, source: str, import_id: str | None
) -> None:
    """Insert pairs within a transaction. Raises `duckdb.ConstraintException` where one is there already."""
    hashes = [pair.hashes for pair in pairs]
    columns: dict[str, Any] = {
        "id": next_ids("pair", len(pairs)),
        "content_hash": [content for content, _, _ in hashes],
        "versus_hash": [versus for _, versus, _ in hashes],
        "prompt_hash": [prompt for _, _, prompt in hashes],
        "prompt": bulk.message_rows([pair.prompt for pair in pairs]),
        "chosen": bulk.message_rows([pair.chosen for pair in pairs]),
        "rejected": bulk.message_rows([pair.rejected for pair in pairs]),
        **bulk.carrying(
            {
                "prompt": [pair.prompt for pair in pairs],
                "chosen": [pair.chosen for pair in pairs],
                "rejected": [pair.rejected for pair in pairs],
            }
        ),
        "prompt_chars": [bulk.characters(pair.prompt) for pair in pairs],
        "chosen_chars": [bulk.characters(pair.chosen) for pair in pairs],
        "rejected_chars": [bulk.characters(pair.rejected) for pair in pairs],
        "weight": [pair.weight for pair in pairs],
        "tags": pa.array([list(pair.tags) for pair in pairs], bulk.TEXTS),
        "deployment": [scope] * len(pairs),
        "source": [source] * len(pairs),
        "import_id": pa.array([import_id] * len(pairs), pa.string()),
        "created_at": pa.array([utcnow()] * len(pairs), pa.timestamp("us")),
    }
    bulk.insert(cursor, "pairs", columns)


KIND = Kind("pairs", PreferencePair.from_json, insert)
"""How pairs are imported."""

# Rows `{messages|prompt, chosen, rejected, weight?, tags?}`, each text or a message list. Rows without a prompt whose two
# sides begin alike are split there.
import_rows = partial(batch_import.import_rows, KIND)


def derived(
    pair: PreferencePair,
    deployment: str | None,
    kind: str,
    release: str | None = None,
    finish_reasons: tuple[str | None, str | None] = (None, None),
) -> Row:
    """Return the row of a pair that a vote or rewrite gives rise to.

    `release` is the one under whose prompt it is trained on (see `origin`), `finish_reasons` say how chosen and rejected
    ended.
    """
    return {
        "id": new_id("pair"),
        "content_hash": pair.content_hash,
        "versus_hash": pair.versus_hash,
        "prompt_hash": pair.prompt_hash,
        "prompt": bulk.plain(pair.prompt),
        "chosen": bulk.plain(pair.chosen),
        "rejected": bulk.plain(pair.rejected),
        **bulk.carrying_row({"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}),
        "prompt_chars": bulk.characters(pair.prompt),
        "chosen_chars": bulk.characters(pair.chosen),
        "rejected_chars": bulk.characters(pair.rejected),
        "weight": pair.weight,
        "tags": list(pair.tags),
        "deployment": deployment or "",
        "release": release,
        "chosen_finish_reason": finish_reasons[0],
        "rejected_finish_reason": finish_reasons[1],
        "source": kind,
        "created_at": utcnow(),
    }


def stats(db: Store) -> dict[str, Any]:
    """Return counts and lengths of all pairs.

    Keys: total, prompts (different ones, see listing.prompts), by_source, by_deployment, by_tag (dicts of counts;
    deployment "" is every deployment), mean_prompt_chars, mean_chosen_chars, mean_rejected_chars, chosen_longer (share
    of the pairs with answers of different length in which the longer one was chosen; null without any).
    """
    return _LISTING.stats(
        db,
        """
        avg(prompt_chars) as mean_prompt_chars,
        avg(chosen_chars) as mean_chosen_chars,
        avg(rejected_chars) as mean_rejected_chars,
        avg((chosen_chars > rejected_chars)::int) filter (chosen_chars <> rejected_chars) as chosen_longer
        """,
    )


def _record(row: Row) -> PairRecord:
    pair = PreferencePair(
        prompt=messages(row["prompt"], row["carried"], "prompt"),
        chosen=messages(row["chosen"], row["carried"], "chosen"),
        rejected=messages(row["rejected"], row["carried"], "rejected"),
        weight=row["weight"],
        tags=tuple(row["tags"]),
    )
    return PairRecord(
        id=row["id"],
        pair=pair,
        content_hash=row["content_hash"],
        deployment=row["deployment"] or None,
        source=row["source"],
        created_at=stamp(row["created_at"]),
    )


_LISTING = listing.Listing("pair", "pairs", _COLUMNS, _record)
list_page, get = _LISTING.page, _LISTING.get
count = _LISTING.count
