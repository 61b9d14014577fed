"""Users, sessions, keys, audit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from store.accounts import audit, keys, users
from store.db.database import Store
from store.errors import Conflict, Invalid, NotFound


def test_a_user_logs_in_with_the_right_password_only(db: Store) -> None:
    made = users.create(db, "ada", ["ops", "chat"], "correct horse")
    assert made.roles == ("chat", "ops")
    assert made.created_at.tzinfo is UTC
    assert users.authenticate(db, "ada", "correct horse") == made
    assert users.authenticate(db, "ada", "wrong horse!") is None
    assert users.authenticate(db, "bob", "correct horse") is None
    users.create(db, "bob", ["chat"])
    assert users.authenticate(db, "bob", "") is None


def test_no_password_or_secret_is_stored(db: Store) -> None:
    users.create(db, "ada", ["ops"], "correct horse")
    token = users.start_session(db, "ada")
    _, secret = keys.create(db, "laptop", ["ops"], "ada")
    db.read().execute("checkpoint")
    stored = db.path.read_bytes()
    for word in ("correct horse", token, secret):
        assert word.encode() not in stored


@pytest.mark.parametrize(
    ("name", "roles", "password", "field"),
    [
        ("", ["ops"], None, "name"),
        ("a b", ["ops"], None, "name"),
        ("ada", [], None, "roles"),
        ("ada", ["king"], None, "roles"),
        ("ada", "ops", None, "roles"),
        ("ada", ["ops"], "short", "password"),
    ],
)
def test_bad_users_are_refused(
    db: Store, name: str, roles: list[str], password: str | None, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        users.create(db, name, roles, password)
    assert caught.value.field == field
    assert users.count(db) == 0


def test_a_name_is_given_once(db: Store) -> None:
    users.create(db, "ada", ["ops"])
    with pytest.raises(Conflict):
        users.create(db, "ada", ["chat"])


def test_sessions_begin_end_and_expire(db: Store) -> None:
    users.create(db, "ada", ["ops"])
    token = users.start_session(db, "ada")
    found = users.find_session(db, token)
    assert found is not None
    assert found.name == "ada"
    assert users.find_session(db, "other") is None
    users.end_session(db, token)
    assert users.find_session(db, token) is None
    late = users.start_session(db, "ada")
    past = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
    with db.atomic() as cursor:
        cursor.execute("update sessions set expires_at = ?", [past])
    assert users.find_session(db, late) is None
    with pytest.raises(NotFound):
        users.start_session(db, "nobody")


def test_removing_a_user_ends_what_they_held(db: Store) -> None:
    users.create(db, "ada", ["ops"])
    token = users.start_session(db, "ada")
    _, secret = keys.create(db, "laptop", ["ops"], "ada")
    users.remove(db, "ada")
    assert users.find_session(db, token) is None
    assert keys.find(db, secret) is None
    with pytest.raises(NotFound):
        users.remove(db, "ada")


def test_keys_are_found_until_they_are_revoked(db: Store) -> None:
    made, secret = keys.create(db, "ci", ["chat"])
    assert secret.startswith(made.hint)
    assert keys.find(db, secret) == made
    assert keys.find(db, "tt-nonsense") is None
    assert keys.count(db) == 1
    revoked = keys.revoke(db, made.id)
    assert revoked.revoked_at is not None
    assert keys.revoke(db, made.id) == revoked
    assert keys.find(db, secret) is None
    assert keys.count(db) == 0
    assert keys.list_all(db) == [revoked]
    with pytest.raises(NotFound):
        keys.revoke(db, "key-0")
    with pytest.raises(NotFound):
        keys.create(db, "x", ["chat"], "nobody")


def test_the_audit_log_lists_newest_first(db: Store) -> None:
    for number in range(3):
        audit.record(db, "ada", "did", str(number), {"n": number})
    assert [entry.subject for entry in audit.list_recent(db, 2)] == ["2", "1"]
    assert audit.list_recent(db)[0].detail == {"n": 2}
    with pytest.raises(Invalid):
        audit.list_recent(db, 0)
