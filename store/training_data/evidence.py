"""Evidence of pairs and demonstrations: the votes, rewrites and likes that support them."""

from __future__ import annotations

from store.db import bulk
from store.db.database import Cursor, utcnow
from store.db.rows import Row


def row(subject_id: str, kind: str, ref: str, person: str | None) -> Row:
    """Return the row that says that the vote or like `ref` of `person` supports a pair or demonstration."""
    return {"subject_id": subject_id, "kind": kind, "ref": ref, "person": person, "created_at": utcnow()}


def add(cursor: Cursor, subject_id: str, kind: str, ref: str, person: str | None) -> None:
    """Record that the vote or like `ref` of `person` supports a pair or demonstration; once only."""
    bulk.insert_together(cursor, [("evidence", row(subject_id, kind, ref, person))])


def withdraw(cursor: Cursor, table: str, kind: str, ref: str) -> None:
    """Take evidence back, and the rows of `table` that nothing else supports."""
    cursor.execute("delete from evidence where kind = $kind and ref = $ref", {"kind": kind, "ref": ref})
    delete_unsupported(cursor, table)


def delete_unsupported(cursor: Cursor, table: str) -> list[str]:
    """Delete the rows of `table` that are neither imported nor have any evidence left; return their ids."""
    cursor.execute(
        f"""
        delete from {table}
        where import_id is null and not exists (from evidence where subject_id = {table}.id)
        returning id
        """
    )
    return [id for (id,) in cursor.fetchall()]
