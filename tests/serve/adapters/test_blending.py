"""A release that is combined from others on a real engine: checked, measured, and served as the weights say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from serve.engine.engine import Engine
from store.rollout import deployments, releases
from tests.serve.conftest import BASE
from trimtab import ui_mount
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import DeploymentSettings, EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

pytestmark = pytest.mark.engine
URL = "http://127.0.0.1:7860"


@pytest.fixture
def platform(engine: Engine, tiny_base: Path, data_dir: Path, tmp_path: Path) -> Platform:
    """A platform that reaches the shared engine over HTTP and has the same adapter directory."""
    settings = Settings(
        data=tmp_path / "data",
        engines={
            "main": EngineSettings(
                base=BASE, model=str(tiny_base), url=engine.url, api_key=engine._key, max_lora_rank=16
            )
        },
        deployments={"assistant": DeploymentSettings(base=BASE)},
    )
    return build_platform(settings, URL)


@pytest.fixture
def client(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        yield client


def test_a_blend_of_releases_is_published_like_any_adapter(
    client: TestClient, platform: Platform, loras: list[Path]
) -> None:
    def post(path: str, **body: Any) -> dict[str, Any]:
        answer = client.post(path, json=body)
        assert answer.is_success, answer.text
        return dict(answer.json())

    made = [post("/api/releases", deployment="assistant", adapter=str(path)) for path in loras[:2]]
    prompted = releases.create(platform.db, "assistant", BASE, system_prompt="Be brief.")
    deployments.promote(platform.db, "assistant", "test", prompted.ref)
    parts = [{"release": made[0]["name"], "weight": 0.7}, {"release": made[1]["name"], "weight": 0.3}]
    blended = post("/api/releases/blend", releases=parts)
    assert blended["blend"] == {
        "rank": 8,
        "combination": "cat",
        "distance": pytest.approx(0, abs=1e-5),
    }
    assert blended["parity"]["ok"]
    assert blended["parity"]["mean_abs"] < 1e-3
    assert (blended["lane"], blended["inherited"]) == (None, ["system_prompt"])
    tree = client.get(f"/api/releases/{blended['name']}/lineage").json()
    assert [(row["ref"], row["weight"]) for row in tree["blended_from"]] == [
        ("assistant@2", 0.7),
        ("assistant@3", 0.3),
    ]
    assert client.get("/api/audit").json()[0]["action"] == "release.blend"
    body = {"model": blended["name"], "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    assert client.post("/v1/chat/completions", json=body).status_code == 200

    names = {path.name for path in platform.paths.adapters.iterdir()}
    refused = client.post("/api/releases/blend", json={"releases": parts, "combination": "svd", "rank": 129})
    assert (refused.status_code, refused.json()["field"]) == (422, "rank")
    assert {path.name for path in platform.paths.adapters.iterdir()} == names
