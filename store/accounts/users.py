"""People who may log in, and their login sessions.

Passwords are kept as Argon2id hashes, session tokens as SHA-256.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import argon2

from store.accounts import names
from store.accounts import roles as role_names
from store.db.database import Store, utcnow
from store.db.record import Record
from store.db.rows import Row, fetch_all, fetch_first, scalar, stamp
from store.errors import Conflict, Invalid, NotFound
from store.ids import new_id

SESSION_LIFETIME = timedelta(days=30)
MIN_PASSWORD_LENGTH = 8

_hasher = argon2.PasswordHasher()
_COLUMNS = "name, id, roles, created_at"


@dataclass(frozen=True, slots=True)
class User(Record):
    """A person who may log in. `roles` are among `ROLES`."""

    id: str
    name: str
    roles: tuple[str, ...]
    created_at: datetime


def create(db: Store, name: str, roles: Sequence[str], password: str | None = None) -> User:
    """Add a user. Without a password they cannot log in, only use keys made for them.

    Raises `Conflict` where the name is taken, `Invalid` for a bad name, role or a short password.
    """
    if password is not None and len(password) < MIN_PASSWORD_LENGTH:
        raise Invalid("password", "…", f"at least {MIN_PASSWORD_LENGTH} characters")
    values = {
        "name": names.login_name(name),
        "id": new_id("user"),
        "roles": list(role_names.read(roles)),
        "password_hash": None if password is None else _hasher.hash(password),
        "now": utcnow(),
    }
    with db.atomic() as cursor:
        rows = fetch_all(
            cursor,
            f"""
            insert into users (name, id, roles, password_hash, created_at)
            values ($name, $id, $roles, $password_hash, $now)
            on conflict do nothing
            returning {_COLUMNS}
            """,
            values,
        )
    if not rows:
        raise Conflict(f"there is a user {name!r} already")
    return _user(rows[0])


def list_all(db: Store) -> list[User]:
    """Return every user, by name."""
    return [_user(row) for row in fetch_all(db.read(), f"select {_COLUMNS} from users order by name")]


def count(db: Store) -> int:
    """Return how many users there are."""
    return int(scalar(db.read(), "select count(*) from users"))


def remove(db: Store, name: str) -> None:
    """Remove a user: their sessions end and their keys are revoked. What they wrote stays (see
    store.privacy.erasure).

    Raises `NotFound`.
    """
    name = names.spell(name)
    with db.atomic() as cursor:
        if not fetch_all(cursor, "delete from users where name = $name returning name", {"name": name}):
            raise NotFound("user", name)
        cursor.execute("delete from sessions where user_name = $name", {"name": name})
        cursor.execute(
            "update keys set revoked_at = $now where user_name = $name and revoked_at is null",
            {"name": name, "now": utcnow()},
        )


def authenticate(db: Store, name: str, password: str) -> User | None:
    """Return the user when name and password agree, else None.

    Takes about as long either way (50 to 100 ms).
    """
    row = fetch_first(
        db.read(),
        f"select {_COLUMNS}, password_hash from users where name = $name",
        {"name": names.spell(name)},
    )
    known = row["password_hash"] if row else None
    try:
        _hasher.verify(known or _decoy(), password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return None
    return _user(row) if row and known else None


def start_session(db: Store, name: str) -> str:
    """Begin a login session of 30 days and return its token; the store keeps only the token's hash."""
    token = secrets.token_urlsafe(32)
    now = utcnow()
    with db.atomic() as cursor:
        if fetch_first(cursor, "select name from users where name = $name", {"name": name}) is None:
            raise NotFound("user", name)
        cursor.execute("delete from sessions where expires_at < $now", {"now": now})
        cursor.execute(
            "insert into sessions values ($hash, $name, $now, $expires)",
            {"hash": _token_hash(token), "name": name, "now": now, "expires": now + SESSION_LIFETIME},
        )
    return token


def find_session(db: Store, token: str) -> User | None:
    """Return whose session a token is, or None when it is unknown, ended or expired."""
    row = fetch_first(
        db.read(),
        """
        select users.name, users.id, users.roles, users.created_at
        from sessions
        join users on users.name = sessions.user_name
        where sessions.token_hash = $hash and sessions.expires_at > $now
        """,
        {"hash": _token_hash(token), "now": utcnow()},
    )
    return _user(row) if row else None


def end_session(db: Store, token: str) -> None:
    """End a login session; harmless when it ended already."""
    with db.atomic() as cursor:
        cursor.execute("delete from sessions where token_hash = $hash", {"hash": _token_hash(token)})


def _token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _decoy() -> str:
    """Return a hash to check against when there is none, so that timing reveals no names."""
    return "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$q0J3cZ6Q2m8rC9m0mHkq7oVbq0m7c8yq4H0V0Y0m3xk"


def _user(row: Row) -> User:
    return User(
        id=row["id"], name=row["name"], roles=tuple(row["roles"]), created_at=stamp(row["created_at"])
    )
