"""API keys. A secret is shown once, when it is made; the store keeps its SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from store.accounts import names
from store.accounts import roles as role_names
from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import Row, aware, fetch_all, fetch_first, scalar, stamp
from store.errors import NotFound
from store.ids import new_id

PREFIX = "tt-"
_COLUMNS = "id, name, roles, user_name, hint, created_at, revoked_at, stores"


@dataclass(frozen=True, slots=True)
class Key(Record):
    """An API key; `hint` is the start of its secret. `user` is the person it speaks for, or None.

    `stores` says whether chat requests made with it are recorded.
    """

    id: str
    name: str
    roles: tuple[str, ...]
    user: str | None
    hint: str
    created_at: datetime
    revoked_at: datetime | None = None
    stores: bool = True


def create(
    db: Store, name: str, roles: Sequence[str], user: str | None = None, stores: bool = True
) -> tuple[Key, str]:
    """Make a key and return it with its secret (256 random bits). `user` is the person it speaks for.

    Chat requests made with it are recorded where it `stores`. Raises `NotFound` for an unknown user, `Invalid` for a bad
    name or role.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    user = None if user is None else names.spell(user)
    with db.atomic() as cursor:
        if user is not None and not fetch_all(
            cursor, "select 1 from users where name = $name", {"name": user}
        ):
            raise NotFound("user", user)
        rows = fetch_all(
            cursor,
            f"""
            insert into keys (id, name, roles, user_name, secret_hash, hint, created_at, stores)
            values ($id, $name, $roles, $user, $hash, $hint, $now, $stores)
            returning {_COLUMNS}
            """,
            {
                "id": new_id("key"),
                "name": names.person_name(name),
                "roles": list(role_names.read(roles)),
                "user": user,
                "hash": _hash(secret),
                "hint": secret[: len(PREFIX) + 4],
                "now": utcnow(),
                "stores": stores,
            },
        )
    return _key(rows[0]), secret


def list_all(db: Store) -> list[Key]:
    """Return every key, oldest first, revoked ones too."""
    return [_key(row) for row in fetch_all(db.read(), f"select {_COLUMNS} from keys order by id")]


def count(db: Store) -> int:
    """Return how many keys are not revoked."""
    return int(scalar(db.read(), "select count(*) from keys where revoked_at is null"))


def revoke(db: Store, id: str) -> Key:
    """Revoke a key and return it; one that is revoked already keeps its time. Raises `NotFound`."""
    with db.atomic() as cursor:
        rows = fetch_all(
            cursor,
            f"update keys set revoked_at = coalesce(revoked_at, $now) where id = $id returning {_COLUMNS}",
            {"id": id, "now": utcnow()},
        )
    if not rows:
        raise NotFound("key", id)
    return _key(rows[0])


def find(db: Store, secret: str) -> Key | None:
    """Return the key that a secret belongs to, or None when it is unknown or revoked."""
    row = fetch_first(
        db.read(),
        f"select {_COLUMNS} from keys where secret_hash = $hash and revoked_at is null",
        {"hash": _hash(secret)},
    )
    return _key(row) if row else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _key(row: Row) -> Key:
    return Key(
        id=row["id"],
        name=row["name"],
        roles=tuple(row["roles"]),
        user=row["user_name"],
        hint=row["hint"],
        created_at=stamp(row["created_at"]),
        revoked_at=aware(row["revoked_at"]),
        stores=row["stores"],
    )
