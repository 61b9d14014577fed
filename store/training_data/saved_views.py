"""Searches among the rows that are kept under a name, for everybody who curates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.accounts import audit
from store.db import validation
from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import dumps, fetch_all, fetch_one, loads, stamp
from store.errors import NotFound
from store.training_data.curation import NOUNS


@dataclass(frozen=True, slots=True)
class SavedView(Record):
    """A search under a name; `filters` are those of `row_search` that are set."""

    name: str
    noun: str
    filters: dict[str, Any]
    created_by: str | None
    created_at: datetime


def save(db: Store, name: str, noun: str, filters: Mapping[str, Any], actor: str | None) -> SavedView:
    """Keep a search; one of the same name is replaced. Raises `Invalid`."""
    name = validation.text("name", name, 100).strip()
    validation.one_of("noun", noun, tuple(NOUNS))
    with db.atomic() as cursor:
        cursor.execute("delete from saved_views where name = $name", {"name": name})
        cursor.execute(
            "insert into saved_views values ($name, $noun, $filters, $actor, $now)",
            {
                "name": name,
                "noun": noun,
                "filters": dumps(dict(filters), "filters"),
                "actor": actor,
                "now": utcnow(),
            },
        )
        audit.record(db, actor, "view.save", name)
    return get(db, name)


def get(db: Store, name: str) -> SavedView:
    """Return a saved search. Raises `NotFound`."""
    row = fetch_one(
        db.read(),
        "select * from saved_views where name = $name",
        {"name": name},
        otherwise=NotFound("view", name),
    )
    return SavedView(
        row["name"], row["noun"], loads(row["filters"]), row["created_by"], stamp(row["created_at"])
    )


def list_all(db: Store) -> list[SavedView]:
    """Return the saved searches by name."""
    return [
        SavedView(
            row["name"], row["noun"], loads(row["filters"]), row["created_by"], stamp(row["created_at"])
        )
        for row in fetch_all(db.read(), "select * from saved_views order by name")
    ]


def remove(db: Store, name: str, actor: str | None) -> None:
    """Delete a saved search. Raises `NotFound`."""
    get(db, name)
    with db.atomic() as cursor:
        cursor.execute("delete from saved_views where name = $name", {"name": name})
        audit.record(db, actor, "view.remove", name)
