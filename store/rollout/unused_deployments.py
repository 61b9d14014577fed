"""Deployments that nothing has used yet, which can be deleted as if they had never been made."""

from __future__ import annotations

from store.accounts import audit
from store.db.database import Cursor, Store
from store.db.rows import fetch_all, run, scalar
from store.errors import Conflict
from store.rollout import deployments, releases

_OWN = ("deployments", "deployment_history", "releases")
_NAMES = ("deployment", "release", "against")


def is_unused(db: Store, name: str) -> bool:
    """Return whether a deployment has its first release alone, and no other row names either. Raises `NotFound`."""
    return _is_unused(db, db.read(), name)


def delete(db: Store, name: str, actor: str | None = None) -> None:
    """Delete an unused deployment with its release. Raises `NotFound`, and `Conflict` for one that is in use."""
    with db.atomic() as cursor:
        if not _is_unused(db, cursor, name):
            raise Conflict(
                f"the deployment {name} is in use: it has releases, conversations or training data"
            )
        for table in ("deployment_history", "releases"):
            run(cursor, f"delete from {table} where deployment = $name", {"name": name})
        run(cursor, "delete from deployments where name = $name", {"name": name})
        audit.record(db, actor, "deployment.delete", name)


def _is_unused(db: Store, cursor: Cursor, name: str) -> bool:
    first = deployments.get(db, name).stable
    if [release.id for release in releases.list_all(db, name)] != [first]:
        return False
    # every table that has such a column, so that a later one counts too
    found = fetch_all(
        cursor,
        """
        select columns.table_name, columns.column_name
        from information_schema.columns as columns join information_schema.tables as tables using (table_name)
        where tables.table_type = 'BASE TABLE' and list_contains($columns, columns.column_name)
        """,
        {"columns": list(_NAMES)},
    )
    return not any(
        _has_row(cursor, row["table_name"], row["column_name"], name, first)
        for row in found
        if row["table_name"] not in _OWN
    )


def _has_row(cursor: Cursor, table: str, column: str, name: str, release: str) -> bool:
    value = name if column == "deployment" else release
    return bool(scalar(cursor, f'select exists (from "{table}" where "{column}" = $value)', {"value": value}))
