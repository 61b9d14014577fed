"""Ratings of single answers besides thumbs: numbers under a key, and comments.

They are kept and listed; no training row comes from them. One answer has one rating per key and person.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.accounts.owners import owner_of
from store.db import bulk, erasure_guard, redaction, validation
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import Row, check_limit, fetch_all, fetch_first, run, stamp
from store.errors import Invalid, NotFound
from store.ids import new_id

COMMENT = "comment"
"""The key of a comment, which has no number."""
MAX_COMMENT = 20_000
"""Max characters of a comment."""
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
_KEYS = "1 to 64 letters, digits or . _ : / - (beginning with a letter or digit)"


@dataclass(frozen=True, slots=True)
class Rating(Record):
    """A number or a comment that somebody gave an answer; `release` is the answer's, by its record id."""

    id: str
    completion_id: str
    key: str
    value: float | None
    comment: str | None
    user: str
    created_at: datetime
    updated_at: datetime
    release: str | None = None


def rate(
    db: Store,
    completion_id: str,
    key: str,
    value: object,
    user: str,
    began: datetime | None = None,
    owner: str | None = None,
) -> float | None:
    """Record a number of `user` for an answer under a key, or (None) take it back; the last one counts.

    True and False are 1 and 0. `owner` (see `owner_of`) may rate answers of their own alone; None is any. Returns the
    number. Raises `Invalid`, `NotFound` for an unknown answer, `Conflict` where the user was erased since `began` (an
    aware time).
    """
    number = (
        None
        if value is None
        else validation.finite("value", float(value) if isinstance(value, bool) else value)
    )
    _put(db, completion_id, rating_key(key), user, began, owner, value=number)
    return number


def comment(
    db: Store,
    completion_id: str,
    text: str,
    user: str,
    began: datetime | None = None,
    owner: str | None = None,
) -> str | None:
    """Record a comment of `user` on an answer, or (blank) take it back; the last one counts. Raises as `rate`."""
    words = redaction.text(db, validation.text("text", text, MAX_COMMENT)) if text.strip() else None
    _put(db, completion_id, COMMENT, user, began, owner, comment=words)
    return words


def rating_key(key: object) -> str:
    """Return the key of a number. Raises `Invalid`."""
    if key == COMMENT:
        raise Invalid("key", key, "another key; a comment is sent as `text`")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise Invalid("key", key, _KEYS)
    return key


def list_recent(
    db: Store, completion_id: str | None = None, key: str | None = None, limit: int = 100
) -> list[Rating]:
    """Return ratings, those that changed last first: of one answer, under one key, or all."""
    rows = fetch_all(
        db.read(),
        """
        select ratings.id, completion_id, key, value, comment, ratings.user_name as "user", ratings.created_at,
            updated_at, release
        from ratings
        left join completions on completions.id = completion_id
        where ($completion is null or completion_id = $completion) and ($key is null or key = $key)
        order by updated_at desc, ratings.id desc
        limit $limit
        """,
        {"completion": completion_id, "key": key, "limit": check_limit(limit)},
    )
    return [
        Rating(**{**row, "created_at": stamp(row["created_at"]), "updated_at": stamp(row["updated_at"])})
        for row in rows
    ]


def answer_of(cursor: Cursor, completion_id: str, owner: str | None) -> Row:
    """Return a completion that `owner` (None is anybody) may judge, with its answer's text. Raises `NotFound`."""
    row = fetch_first(
        cursor,
        """
        select completions.conversation_id, completions.prompt_id, completions.message_id, completions.deployment,
            completions.release, completions.lane, completions.model, completions.finish_reason, completions.error,
            completions.user_name, completions.key_id, messages.content, messages.carried
        from completions
        left join messages on messages.id = completions.message_id
        where completions.id = $id
        """,
        {"id": completion_id},
    )
    if row is None or owner not in (None, owner_of(row["user_name"], row["key_id"])):
        raise NotFound("completion", completion_id)
    return row


def _put(
    db: Store,
    completion_id: str,
    key: str,
    user: str,
    began: datetime | None,
    owner: str | None,
    **said: Any,
) -> None:
    """Insert, change or (where nothing is said) delete the rating of an answer under a key by a user."""
    place = {"completion": completion_id, "key": key, "user": user}
    with db.atomic() as cursor:
        erasure_guard.raise_if_erased(db, user, began)
        answer_of(cursor, completion_id, owner)
        found = fetch_first(
            cursor,
            """
            select id, value, comment
            from ratings
            where completion_id = $completion and key = $key and user_name = $user
            """,
            place,
        )
        (column, given), now = next(iter(said.items())), utcnow()
        if found is not None and given is None:
            run(cursor, "delete from ratings where id = $id", {"id": found["id"]})
        elif found is not None and found[column] != given:
            run(
                cursor,
                f"update ratings set {column} = $given, updated_at = $now where id = $id",
                {"given": given, "now": now, "id": found["id"]},
            )
        elif found is None and given is not None:
            row = {"id": new_id("rating"), "completion_id": completion_id, "key": key, "user_name": user}
            times = {"created_at": now, "updated_at": now}
            bulk.insert_together(cursor, [("ratings", {**row, **said, **times})])
