"""A hub id in the settings: the platform downloads it for its engine, and every later step reads the local snapshot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from serve.engine.engine import Engine
from serve.engine.spec import EngineSpec, command
from serve.errors import EngineFailed
from store.rollout import runs
from store.training_data import pairs
from tests.support.hub import Hub
from trimtab import loop, ui_mount
from trimtab.app import build_app, build_platform
from trimtab.base_models.fetching import Downloads
from trimtab.base_models.hub import fetch
from trimtab.config.settings import Settings

URL = "http://127.0.0.1:7860"
SETTINGS = {
    "engines": {"main": {"base": "small", "model": "acme/tiny", "url": "http://127.0.0.1:9"}},
    "deployments": {"assistant": {"base": "small"}},
}


def attached(tmp_path: Path, model: str, revision: str | None = None) -> Engine:
    engine = Engine(EngineSpec("small", "small", model), tmp_path)
    Downloads(tmp_path / "logs").attach(engine, revision)
    return engine


def test_an_engine_downloads_its_hub_id_and_serves_the_snapshot(
    cache: Path, hub: Hub, tmp_path: Path
) -> None:
    engine = attached(tmp_path, "acme/tiny", hub.repositories["acme/tiny"].commit)
    asyncio.run(engine._fetch())
    directory = Path(engine.spec.model)
    assert directory.is_relative_to(cache)
    assert (directory / "model.safetensors").is_file()
    argv = command(engine.spec, 1)
    assert str(directory) in argv
    assert "q_proj" in argv, "the layers that LoRA adapts are read from its files"
    hub.status = 500
    again = attached(tmp_path, "acme/tiny")
    assert again.fetch is not None
    with pytest.raises(EngineFailed, match=r"acme/tiny can't be downloaded: .* answers 500"):
        asyncio.run(again._fetch())
    asyncio.run(attached(tmp_path, "acme/tiny", directory.name)._fetch())


def test_a_path_and_an_engine_elsewhere_download_nothing(tmp_path: Path) -> None:
    assert attached(tmp_path, str(tmp_path)).fetch is None
    elsewhere = Engine(EngineSpec("small", "small", "acme/tiny", url="http://127.0.0.1:9"), tmp_path)
    Downloads(tmp_path / "logs").attach(elsewhere, None)
    assert elsewhere.fetch is None


def test_a_hub_id_is_planned_and_trained_from_its_snapshot(
    cache: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = fetch("acme/tiny", None)
    hub.status = 500
    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())
    platform = build_platform(Settings.model_validate({"data": tmp_path / "data", **SETTINGS}), URL)
    rows = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(8)]
    pairs.import_rows(platform.db, rows, "rows.jsonl")
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        planned = client.post("/api/runs/plan", json={"method": "dpo"})
        assert planned.status_code == 200, planned.text
        assert planned.json()["trainable_parameters"] > 0
        run = runs.create(platform.db, "dpo", "assistant")
        asyncio.run(loop.take_snapshot(platform.loop, run))
    text = (platform.paths.run(run.id) / "run.toml").read_text()
    assert f'base_model = "{directory}"' in text
