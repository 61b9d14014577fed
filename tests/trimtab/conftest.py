"""A platform in process, whose engine never answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from store.rollout import releases, runs
from store.rollout.runs import Run
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
BASE = "smollm2-135m-instruct"


@pytest.fixture
def platform(tmp_path: Path, empty: Path) -> Iterator[Platform]:
    (tmp_path / "data").mkdir()
    shutil.copy(empty, tmp_path / "data" / empty.name)
    engines = {"main": EngineSettings(base=BASE, url="http://127.0.0.1:9", api_key="none")}
    platform = build_platform(Settings(data=tmp_path / "data", engines=engines), URL)
    yield platform
    platform.db.close()


@pytest.fixture
def client(platform: Platform) -> Iterator[TestClient]:
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        yield client


def problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert {"type", "title", "detail"} <= set(body)
    return dict(body)


def judged(platform: Platform, rollout: str, found: str = "pass", gate: str = "enforce") -> Run:
    """A run in `evaluating` whose release exists and whose gate has spoken."""
    run = runs.create(platform.db, "dpo", "assistant", rollout=rollout, gate=gate, requested_by="ada")
    release = releases.create(platform.db, "assistant", BASE, run=run.id)
    for state in ("snapshot", "training", "publishing"):
        runs.move(platform.db, run.id, state)
    verdict = {"passed": found == "pass", "verdict": found, "reasons": [], "mode": gate}
    return runs.move(platform.db, run.id, "evaluating", release=release.id, gate_decision=verdict)
