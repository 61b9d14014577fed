"""Base models that a running platform gains and loses by `/api/models`. Engines are external ones that never answer."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from store.accounts import audit
from store.db.database import Store
from store.rollout import deployments, runs
from tests.trimtab.base_models.conftest import Trimtab
from trimtab import ui_mount
from trimtab.app import build_app, build_platform
from trimtab.base_models import settings_edit
from trimtab.config.paths import DataPaths
from trimtab.config.settings_file import load
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
SETTINGS = """\
[engines.main]
base = "first"
url = "http://127.0.0.1:9"

[deployments.assistant]
base = "first"
"""
ENGINE = {"url": "http://127.0.0.1:9"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "trimtab.toml"
    file.write_text(SETTINGS)
    return file


@pytest.fixture
def platform(file: Path, tmp_path: Path) -> Platform:
    return build_platform(load(file, data=tmp_path / "data"), URL, file)


@pytest.fixture
def client(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        yield client


def names(client: TestClient) -> list[str]:
    return [card["id"] for card in client.get("/v1/models").json()["data"]]


def field_of(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json().get("field"))


def test_a_base_model_is_served_and_taken_away_without_a_restart(
    client: TestClient, platform: Platform, file: Path
) -> None:
    settings_edit.add(file, "second", ENGINE, None)
    added = client.post("/api/models", json={"name": "second"})
    assert added.status_code == 201, added.text
    assert [engine["name"] for engine in added.json()["engines"]] == ["second"]
    assert "second" in names(client)
    assert [row["name"] for row in client.get("/api/models").json()] == ["first", "second"]
    assert {row["base"] for row in client.get("/api/status").json()["engines"]} == {"first", "second"}
    answer = client.post("/v1/completions", json={"model": "second", "prompt": "x"})
    assert answer.status_code == 503, "known, and its engine does not answer"
    assert client.delete("/api/models/second").status_code == 204
    assert "second" not in names(client)
    assert platform.serving.bases == ["first"]
    assert [row.action for row in audit.list_recent(platform.db, limit=2)] == ["model.remove", "model.add"]


def test_a_deployment_comes_with_its_base_model_and_goes_unless_it_was_used(
    client: TestClient, platform: Platform, file: Path
) -> None:
    before = load(file)
    for _ in range(2):  # what was removed can be added again
        settings_edit.add(file, "second", ENGINE, "helper")
        added = client.post("/api/models", json={"name": "second"}).json()
        assert added["deployments"] == ["helper"]
        assert {"helper", "helper@1"} <= set(names(client))
        assert client.delete("/api/models/second").status_code == 204
        assert not {"helper", "helper@1", "second"} & set(names(client))
        settings_edit.remove(file, "second")
        assert load(file).model_dump() == before.model_dump()
    settings_edit.add(file, "second", ENGINE, "helper")
    client.post("/api/models", json={"name": "second"})
    runs.create(platform.db, "dpo", "helper")
    refused = client.delete("/api/models/second")
    assert refused.status_code == 409
    assert "helper" in refused.json()["detail"]
    assert "helper@1" in names(client)


def test_asking_twice_changes_nothing(client: TestClient, platform: Platform, file: Path) -> None:
    settings_edit.add(file, "second", ENGINE, None)
    for _ in range(2):
        assert client.post("/api/models", json={"name": "second"}).status_code == 201
    assert len(platform.serving.pool.engines()) == 2


def test_what_the_settings_file_does_not_have_is_refused(client: TestClient, file: Path) -> None:
    assert field_of(client.post("/api/models", json={"name": "none"}), 422) == "name"
    assert field_of(client.post("/api/models", json={}), 422) == "name"
    assert field_of(client.delete("/api/models/none"), 404) == "name"
    assert client.delete("/api/models/first").status_code == 409
    file.write_text("[engines.main]\nbas = 1\n")
    wrong = client.post("/api/models", json={"name": "first"})
    assert wrong.status_code == 422
    assert "engines.main.bas" in wrong.json()["detail"]


def test_models_remove_takes_away_what_nothing_uses(trimtab: Trimtab) -> None:
    file = Path("trimtab.toml")
    file.write_text("# first\n" + SETTINGS)
    settings_edit.add(file, "second", ENGINE, None)
    settings_edit.add(file, "third", ENGINE, "helper")
    assert "no base model 'none'" in trimtab("models", "remove", "none", status=1)
    assert "schedule in trimtab.toml retrains a deployment of first" in trimtab(
        "models", "remove", "first", status=1
    )
    trimtab("models", "remove", "second")
    paths = DataPaths(Path("data"))
    paths.make()
    with Store.open(paths.store) as db:
        deployments.ensure(db, "helper", "third")
        runs.create(db, "dpo", "helper")
    assert "third is in use by helper" in trimtab("models", "remove", "third", status=1)
    text = file.read_text()
    assert text.startswith("# first\n")
    assert list(tomllib.loads(text)["engines"]) == ["main", "third"]


def test_the_settings_file_of_the_running_platform_is_the_one_that_changes(
    trimtab: Trimtab, tmp_path: Path
) -> None:
    paths = DataPaths(tmp_path / "data")
    paths.make()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    own = elsewhere / "trimtab.toml"
    facts = {"pid": os.getpid(), "url": "http://127.0.0.1:9", "key": "k", "settings": str(own)}
    paths.write_platform(facts)
    assert f"{own} has no base model 'none'" in trimtab("models", "remove", "none", status=1)
    own.write_text(SETTINGS)
    assert f"first is the only base model of {own}" in trimtab("models", "remove", "first", status=1)
    Path("trimtab.toml").write_text('[engines.own]\nbase = "mine"\n')
    assert "no base model 'mine'" in trimtab("models", "remove", "mine", status=1)


def test_a_text_that_is_no_settings_is_never_written(tmp_path: Path, file: Path) -> None:
    before = file.read_text()
    with pytest.raises(Exception, match=r"engines\.second\.replicas"):
        settings_edit.add(file, "second", {"replicas": -1}, None)
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["trimtab.toml"]
