"""Which adapters an adapter was combined from, and with what weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.db.database import Store
from store.db.rows import Row, fetch_all
from store.errors import Conflict


@dataclass(frozen=True, slots=True)
class Parent:
    """One part of a combination: the adapter, its weight, and the record id of the release that it was named by."""

    adapter: str
    weight: float
    release: str


def record(db: Store, adapter: str, parents: Sequence[Parent]) -> None:
    """Record what an adapter was combined from; one that has parents keeps them.

    Raises `Conflict` where a parent stands on the adapter itself, or is it: the combination changed nothing.
    """
    with db.atomic() as cursor:
        if fetch_all(cursor, "select place from adapter_parents where adapter = $id", {"id": adapter}):
            return
        circular = fetch_all(
            cursor,
            """
            select adapter
            from adapter_ancestry
            where ancestor = $id and list_contains($parents, adapter)
            """,
            {"id": adapter, "parents": [parent.adapter for parent in parents]},
        )
        if circular:
            raise Conflict(
                f"the combination is {adapter}, which {circular[0]['adapter']} is or was made from"
            )
        for place, parent in enumerate(parents):
            cursor.execute(
                "insert into adapter_parents values (?, ?, ?, ?, ?)",
                [adapter, place, parent.adapter, parent.weight, parent.release],
            )


def of_adapter(db: Store, adapter: str | None) -> list[Row]:
    """Return what an adapter was combined from, in its order: adapter, weight, and the name of the release."""
    return fetch_all(
        db.read(),
        """
        select parent as adapter, weight, deployment || '@' || number as ref
        from adapter_parents
        join releases on releases.id = adapter_parents.release
        where adapter_parents.adapter = $adapter
        order by place
        """,
        {"adapter": adapter},
    )
