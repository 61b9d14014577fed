"""Who is known by what, and what they may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.auth import ROLES, SESSION_COOKIE, Authenticator, Principal, require
from serve.errors import Forbidden, Unauthenticated
from store.accounts import keys, users
from store.db.database import Store

HERE = "127.0.0.1"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "t.duckdb") as store:
        yield store


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_alone_on_this_machine_anybody_may_do_everything(db: Store) -> None:
    auth = Authenticator(db)
    assert auth.single_user
    principal = auth.authenticate({}, {}, HERE)
    assert (principal.via, principal.roles) == ("single-user", frozenset(ROLES))
    assert auth.authenticate(bearer("EMPTY"), {}, "::1").via == "single-user"
    with pytest.raises(Unauthenticated, match="only this machine"):
        auth.authenticate({}, {}, "192.168.1.7")


def test_key_does_not_end_single_user_mode(db: Store) -> None:
    auth = Authenticator(db)
    key, secret = keys.create(db, "ci", ["rater"])
    auth.drop_cached()
    assert auth.single_user
    assert auth.authenticate({}, {}, HERE).via == "single-user"
    with pytest.raises(Unauthenticated, match="unknown"):
        auth.authenticate(bearer("EMPTY"), {}, HERE)
    principal = auth.authenticate(bearer(secret), {}, "10.0.0.9")
    assert (principal.name, principal.roles, principal.via, principal.key_id) == (
        "ci", frozenset({"rater"}), "key", key.id,
    )  # fmt: skip
    with pytest.raises(Unauthenticated, match="keys create"):
        auth.authenticate({}, {}, "10.0.0.9")
    keys.revoke(db, key.id)
    auth.drop_cached()
    with pytest.raises(Unauthenticated, match="revoked"):
        auth.authenticate(bearer(secret), {}, HERE)
    assert auth.single_user
    assert auth.authenticate(bearer("EMPTY"), {}, HERE).via == "single-user", "no key is left to be mistaken"


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-real-ip"])
def test_proxy_on_this_machine_does_not_stand_for_it_once_a_key_exists(db: Store, header: str) -> None:
    auth = Authenticator(db)
    assert auth.authenticate({header: "10.0.0.9"}, {}, HERE).via == "single-user"
    keys.create(db, "ci", ["chat"])
    auth.drop_cached()
    with pytest.raises(Unauthenticated):
        auth.authenticate({header: "10.0.0.9"}, {}, HERE)


def test_first_key_ends_single_user_mode_where_other_machines_reach_it(db: Store) -> None:
    auth = Authenticator(db, exposed=True)
    key, _ = keys.create(db, "ci", ["rater"])
    auth.drop_cached()
    assert not auth.single_user
    for headers in ({}, bearer("wrong")):
        with pytest.raises(Unauthenticated):
            auth.authenticate(headers, {}, HERE)
    keys.revoke(db, key.id)
    auth.drop_cached()
    assert not auth.single_user, "no key is left, and still nobody is let in"


def test_first_user_ends_single_user_mode_for_good(db: Store) -> None:
    auth = Authenticator(db)
    _, secret = keys.create(db, "ci", ["rater"])
    users.create(db, "ada", ["rater"], "correct horse")
    auth.drop_cached()
    assert not auth.single_user
    for headers in ({}, bearer("wrong"), {"authorization": f"Basic {secret}"}):
        with pytest.raises(Unauthenticated):
            auth.authenticate(headers, {}, HERE)
    users.remove(db, "ada")
    auth.drop_cached()
    assert not auth.single_user, "no user is left, and still nobody is let in"


def test_a_session_speaks_for_its_user(db: Store) -> None:
    users.create(db, "ada", ["rater"], "correct horse")
    auth = Authenticator(db)
    token = users.start_session(db, "ada")
    principal = auth.authenticate({}, {SESSION_COOKIE: token}, "10.0.0.9")
    assert (principal.name, principal.user, principal.via) == ("ada", "ada", "session")
    assert auth.recall({}, {SESSION_COOKIE: token}) == principal
    users.end_session(db, token)
    auth.drop_cached()
    with pytest.raises(Unauthenticated, match="ended"):
        auth.authenticate({}, {SESSION_COOKIE: token}, HERE)


def test_the_local_key_works_beside_users(db: Store) -> None:
    operator = Principal("operator", frozenset({"ops"}), "local key")
    auth = Authenticator(db, local_keys={"s3cret": operator})
    users.create(db, "ada", ["chat"], "correct horse")
    assert auth.authenticate(bearer("s3cret"), {}, HERE) is operator
    assert auth.recall(bearer("s3cret"), {}) is operator


def test_roles_include_those_below_them() -> None:
    ops = Principal("o", frozenset({"ops"}), "key")
    rater = Principal("r", frozenset({"rater"}), "key")
    nobody = Principal("n", frozenset(), "key")
    for role in ROLES:
        require(ops, role)
    require(rater, "chat")
    with pytest.raises(Forbidden, match="needs the role ops; r has: rater"):
        require(rater, "ops")
    with pytest.raises(Forbidden, match="has: none"):
        require(nobody, "chat")
