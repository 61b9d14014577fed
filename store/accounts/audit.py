"""Who did what: an append-only log. Changes of deployments write theirs in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import Row, check_limit, dumps, fetch_all, loads, stamp
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


def list_recent(db: Store, limit: int = 100) -> list[AuditEntry]:
    """Return the newest entries, newest first."""
    rows = fetch_all(
        db.read(),
        """
        select id, actor, action, subject, detail, created_at
        from audit
        order by seq desc
        limit $limit
        """,
        {"limit": check_limit(limit)},
    )
    return [_entry(row) for row in rows]


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        actor=row["actor"],
        action=row["action"],
        subject=row["subject"],
        detail=loads(row["detail"]),
        created_at=stamp(row["created_at"]),
    )
