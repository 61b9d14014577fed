"""Wrong passwords are counted; who tries too many has to wait."""

from __future__ import annotations

from starlette.testclient import TestClient

from store.accounts import users
from trimtab.platform import Platform
from trimtab.web.sign_in_limit import MAX_KEYS, PER_HOST, PER_NAME, PER_NAME_AND_HOST, WINDOW_S, SignInLimit


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def fail(limit: SignInLimit, times: int, name: str = "ada", host: str = "h") -> None:
    for _ in range(times):
        limit.began(name, host)


def test_a_name_waits_on_one_machine_and_not_on_another() -> None:
    clock = Clock()
    limit = SignInLimit(clock)
    fail(limit, PER_NAME_AND_HOST - 1)
    assert limit.wait_s("ada", "h") == 0
    clock.now = 10
    fail(limit, 1, "ADA")
    assert limit.wait_s("ada", "h") == WINDOW_S - 10
    assert limit.wait_s("ada", "elsewhere") == limit.wait_s("bob", "h") == 0
    clock.now = WINDOW_S
    assert limit.wait_s("ada", "h") == 0


def test_a_machine_and_a_name_have_limits_of_their_own() -> None:
    limit = SignInLimit(Clock())
    for n in range(PER_HOST):
        limit.began(f"user-{n}", "h")
    assert limit.wait_s("new", "h") > 0
    for n in range(PER_NAME):
        limit.began("ada", f"host-{n}")
    assert limit.wait_s("ada", "new") > 0
    assert limit.wait_s("bob", "new") == 0


def test_right_passwords_count_nothing_and_forgive() -> None:
    limit = SignInLimit(Clock())
    for _ in range(PER_HOST + 5):
        limit.began("ada", "h")
        limit.succeeded("ada", "h")
    assert limit.wait_s("ada", "h") == 0
    fail(limit, PER_NAME_AND_HOST - 1)
    limit.began("ada", "h")
    limit.succeeded("ada", "h")
    fail(limit, PER_NAME_AND_HOST - 1)
    assert limit.wait_s("ada", "h") == 0


def test_memory_is_bounded() -> None:
    limit = SignInLimit(Clock())
    for n in range(MAX_KEYS):
        limit.began(f"user-{n}", f"host-{n}")
    assert len(limit._failures) == MAX_KEYS


def test_the_sign_in_page_says_how_long_to_wait(platform: Platform, client: TestClient) -> None:
    users.create(platform.db, "ada", ["ops"], "a long password")
    wrong = {"name": "ada", "password": "wrong"}
    for _ in range(PER_NAME_AND_HOST):
        assert client.post("/login", data=wrong).status_code == 401
    refused = client.post("/login", data={"name": "ada", "password": "a long password"})
    assert refused.status_code == 429
    assert "Too many wrong passwords. Try again in 15 minutes." in refused.text
    assert 0 < int(refused.headers["retry-after"]) <= WINDOW_S
    other = client.post("/login", data={"name": "bob", "password": "wrong"})
    assert other.status_code == 401
