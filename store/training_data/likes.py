"""Likes and dislikes of single answers: the rows of KTO."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from store import carried
from store.db import bulk, listing
from store.db.database import Cursor, Store, utcnow
from store.db.rows import Row, check_limit, fetch_all, fetch_one
from store.ids import new_id, next_ids
from store.training_data import batch_import
from store.training_data.import_sink import Kind
from store.training_data.origin import UNKNOWN, Origin
from store.values import Demonstration, Judgement


def put(
    cursor: Cursor,
    completion_id: str,
    value: Demonstration,
    liked: bool | None,
    deployment: str | None,
    user: str | None,
    origin: Origin = UNKNOWN,
) -> None:
    """Set, change or (None) take back the like of a completion, within a transaction."""
    cursor.execute("delete from likes where completion_id = $id", {"id": completion_id})
    if liked is None:
        return
    parts = {"prompt": value.prompt, "completion": value.completion}
    cursor.execute(
        """
        insert into likes (id, completion_id, content_hash, prompt_hash, prompt, completion, carried, liked,
            deployment, user_name, source, release, completion_finish_reason, created_at)
        values ($id, $completion_id, $hash, $prompt_hash, $prompt, $completion, $carried, $liked,
            $scope, $user, 'chat', $release, $finish_reason, $now)
        """,
        {
            "id": new_id("like"),
            "completion_id": completion_id,
            "hash": Judgement(value.prompt, value.completion, liked).content_hash,
            "prompt_hash": value.prompt_hash,
            "prompt": bulk.plain(value.prompt),
            "completion": bulk.plain(value.completion),
            "carried": bulk.carrying_row(parts).get("carried"),
            "liked": liked,
            "scope": deployment or "",
            "user": user,
            "release": origin.release,
            "finish_reason": origin.finish_reason,
            "now": utcnow(),
        },
    )


def disliked(value: Demonstration, deployment: str | None, vote: str, rater: str, origin: Origin) -> Row:
    """Return the row of an answer that a vote disliked."""
    return {
        "id": new_id("like"),
        "content_hash": Judgement(value.prompt, value.completion, False).content_hash,
        "prompt_hash": value.prompt_hash,
        "prompt": bulk.plain(value.prompt),
        "completion": bulk.plain(value.completion),
        **bulk.carrying_row({"prompt": value.prompt, "completion": value.completion}),
        "liked": False,
        "deployment": deployment or "",
        "user_name": rater,
        "source": "vote",
        "vote_id": vote,
        "release": origin.release,
        "completion_finish_reason": origin.finish_reason,
        "created_at": utcnow(),
    }


def insert(cursor: Cursor, rows: Sequence[Judgement], scope: str, source: str, import_id: str | None) -> None:
    """Insert imported likes within a transaction, whether or not they are there already."""
    columns: dict[str, Any] = {
        "id": next_ids("like", len(rows)),
        "content_hash": [row.content_hash for row in rows],
        "prompt_hash": [row.prompt_hash for row in rows],
        "prompt": bulk.message_rows([row.prompt for row in rows]),
        "completion": bulk.message_rows([row.completion for row in rows]),
        **bulk.carrying(
            {"prompt": [row.prompt for row in rows], "completion": [row.completion for row in rows]}
        ),
        "liked": [row.label for row in rows],
        "deployment": [scope] * len(rows),
        "source": [source] * len(rows),
        "import_id": [import_id] * len(rows),
        "created_at": pa.array([utcnow()] * len(rows), pa.timestamp("us")),
    }
    bulk.insert(cursor, "likes", columns)


# Rows `{messages|prompt, completion, label}`.
import_rows = partial(batch_import.import_rows, Kind("likes", Judgement.from_json, insert))


def list_recent(db: Store, limit: int = 100) -> list[dict[str, Any]]:
    """Return the newest likes as KTO rows: prompt, completion (message lists), label (liked)."""
    found = fetch_all(
        db.read(),
        "select id, prompt, completion, carried, liked as label from likes order by id desc limit $limit",
        {"limit": check_limit(limit)},
    )
    for row in found:
        packed = row.pop("carried")
        for part in ("prompt", "completion"):
            row[part] = carried.merged(row[part], packed, part)
    return found


def count(db: Store, deployment: str | None = None) -> dict[str, int]:
    """Return how many answers were liked and how many disliked."""
    row = fetch_one(
        db.read(),
        f"""
        select count(*) filter (liked) as liked, count(*) filter (not liked) as disliked
        from likes
        where {listing.IN_SCOPE}
        """,
        {"deployment": deployment},
    )
    return row
