"""Who did what: an append-only log. Changes of deployments write theirs in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import Row, check_limit, dumps, fetch_all, loads, naive, scalar, stamp
from store.ids import new_id


@dataclass(frozen=True, slots=True)
class AuditEntry(Record):
    """Who did what to which subject, and when."""

    id: str
    actor: str | None
    action: str
    subject: str
    detail: dict[str, Any]
    created_at: datetime


def record(
    db: Store, actor: str | None, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> AuditEntry:
    """Append an entry: `actor` (a user, a key or None for the platform) did `action` to `subject`."""
    with db.atomic() as cursor:
        rows = fetch_all(
            cursor,
            """
            insert into audit (id, actor, action, subject, detail, created_at)
            values ($id, $actor, $action, $subject, $detail, $now)
            returning id, actor, action, subject, detail, created_at
            """,
            {
                "id": new_id("audit"),
                "actor": actor,
                "action": action,
                "subject": subject,
                "detail": dumps(dict(detail or {}), "detail"),
                "now": utcnow(),
            },
        )
    return _entry(rows[0])


def record_once(db: Store, actor: str | None, action: str, subject: str) -> None:
    """Append an entry unless there is one of this action and subject."""
    with db.atomic() as cursor:
        known = scalar(
            cursor,
            "select count(*) from audit where action = $action and subject = $subject",
            {"action": action, "subject": subject},
        )
        if not known:
            record(db, actor, action, subject)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries to list; None takes all.

    actor: by this person, key, or `platform`. action: `release.create`, or all that begins with `release.`. subject: what
    was changed. text: in any of these or the detail, in any case. since, until: aware times, from and before.
    """

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def list_recent(db: Store, limit: int = 100, wanted: Wanted | None = None) -> list[AuditEntry]:
    """Return the newest entries that are `wanted`, newest first."""
    asked = wanted or Wanted()
    rows = fetch_all(
        db.read(),
        """
        select id, actor, action, subject, detail, created_at
        from audit
        where ($actor is null or coalesce(actor, 'platform') = $actor)
            and ($action is null or action = $action or starts_with(action, $action || '.'))
            and ($subject is null or subject = $subject)
            and ($text is null or contains(
                lower(concat_ws(' ', coalesce(actor, 'platform'), action, subject, detail::varchar)), lower($text)
            ))
            and ($since is null or created_at >= $since)
            and ($until is null or created_at < $until)
        order by seq desc
        limit $limit
        """,
        {
            "actor": asked.actor,
            "action": asked.action,
            "subject": asked.subject,
            "text": asked.text,
            "since": naive(asked.since) if asked.since else None,
            "until": naive(asked.until) if asked.until else None,
            "limit": check_limit(limit),
        },
    )
    return [_entry(row) for row in rows]


def known(db: Store) -> dict[str, list[str]]:
    """Return whom and which actions the log has, for filters: `actors`, `actions`."""
    columns = {"actors": "coalesce(actor, 'platform')", "actions": "action"}
    return {
        name: [
            row["value"]
            for row in fetch_all(db.read(), f"select distinct {column} as value from audit order by value")
        ]
        for name, column in columns.items()
    }


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        actor=row["actor"],
        action=row["action"],
        subject=row["subject"],
        detail=loads(row["detail"]),
        created_at=stamp(row["created_at"]),
    )
