"""What a first key and a first user change, and who says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from store.accounts import users
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings, ServerSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
HERE = ("127.0.0.1", 5000)


def make(data: Path, server: ServerSettings | None = None) -> Platform:
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    return build_platform(Settings(data=data, engines=engines, server=server or ServerSettings()), URL)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return make(tmp_path / "data")


@pytest.fixture
def client(platform: Platform) -> Iterator[TestClient]:
    with TestClient(build_app(platform), base_url=URL, client=HERE) as client:
        yield client


def test_screens_stay_open_here_after_the_first_key(client: TestClient) -> None:
    made = client.post("/api/keys", json={"name": "ci", "roles": ["chat"]}).json()
    assert "trimtab users add" in made["notice"]
    page = client.get("/", headers={"accept": "text/html"}, follow_redirects=False)
    assert page.status_code == 200
    assert client.get("/api/status").json()["mode"] == "single-user"
    key = {"authorization": f"Bearer {made['secret']}"}
    assert client.get("/api/whoami", headers=key).json()["roles"] == ["chat"], "a key has its own roles"
    assert client.delete(f"/api/keys/{made['id']}").status_code == 204
    assert client.get("/api/whoami", headers=key).status_code == 401
    assert client.get("/api/whoami").status_code == 200


def test_first_user_says_what_changes(client: TestClient, platform: Platform) -> None:
    body = {"name": "ada", "roles": ["chat"], "password": "correct horse"}
    notice = client.post("/api/users", json=body).json()["notice"]
    assert "everybody signs in" in notice
    assert "No user has the role ops" in notice
    operator = {"authorization": f"Bearer {platform.key}"}
    body = {"name": "bo", "roles": ["ops"], "password": "correct horse"}
    assert client.post("/api/users", json=body, headers=operator).json()["notice"] is None
    made = client.post("/api/keys", json={"name": "ci", "user": "ada"}, headers=operator).json()
    assert (made["user"], made["notice"]) == ("ada", None)


def test_key_of_an_unknown_user_is_refused(client: TestClient) -> None:
    assert client.post("/api/keys", json={"name": "ci", "user": "nobody"}).status_code == 404


def test_key_passes_by_another_host_name_and_alone(client: TestClient) -> None:
    elsewhere = {"host": "trimtab.example"}
    assert client.get("/api/whoami", headers=elsewhere).status_code == 403
    for wrong in ("tt-wrong", "EMPTY"):
        bearer = {**elsewhere, "authorization": f"Bearer {wrong}"}
        assert client.get("/api/whoami", headers=bearer).status_code == 401
    made = client.post("/api/keys", json={"name": "ci", "roles": ["chat"]}).json()
    bearer = {**elsewhere, "authorization": f"Bearer {made['secret']}"}
    assert client.get("/api/whoami", headers=bearer).json()["name"] == "ci"


def test_sign_in_page_without_users_explains_how_to_add_one(client: TestClient, platform: Platform) -> None:
    assert "trimtab users add NAME --role ops" in client.get("/login").text
    users.create(platform.db, "ada", ["ops"], "correct horse")
    assert "trimtab users add" not in client.get("/login").text


def test_required_key_is_asked_for_here_too(tmp_path: Path) -> None:
    platform = make(tmp_path / "data", ServerSettings(require_key=True))
    with TestClient(build_app(platform), base_url=URL, client=HERE) as client:
        assert client.get("/api/status").status_code == 401
        operator = {"authorization": f"Bearer {platform.key}"}
        assert client.get("/api/status", headers=operator).json()["mode"] == "multi-user"
