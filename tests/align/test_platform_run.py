"""From likes in the store to a trained adapter, through the API: snapshot, recipe, worker, progress. No engine serves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from align_helpers import likes, pairs
from starlette.testclient import TestClient

from align.run_directory import RunDirectory
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.config.training_sections import TrainingSettings

URL = "http://127.0.0.1:7860"


def until(client: TestClient, run: str, states: tuple[str, ...]) -> dict[str, Any]:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        found = dict(client.get(f"/api/runs/{run}").json())
        if found["state"] in (*states, "failed", "cancelled"):
            return found
        time.sleep(0.2)
    raise AssertionError(found)


@pytest.mark.slow
def test_likes_are_trained_on_by_kto(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "trimtab.runs.workers.WORKER_NICENESS", 0
    )  # another test process wants the cores, too
    engines = {"main": EngineSettings(base="tiny", model=str(tiny), url="http://127.0.0.1:9", api_key="none")}
    settings = Settings(
        data=tmp_path / "data",
        engines=engines,
        deployments={"assistant": {"base": "tiny"}},
        training=TrainingSettings(checkpoint_steps=3),
    )
    platform = build_platform(settings, URL)
    rows = [{k: row[k] for k in ("prompt", "completion", "label")} for row in likes(24)]
    body = {
        "method": "kto",
        "recipe": "thumbs",
        "rollout": "none",
        "params": {"max_length": 64, "r": 4, "learning_rate": 1e-2, "num_train_epochs": 4},
    }
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        sent = client.post("/api/imports/likes", params={"name": "likes.json"}, json=rows)
        assert sent.json()["accepted"] == 24, sent.text
        planned = client.post("/api/runs/plan", json=body).json()
        assert (planned["rows"], planned["fits"]) == (24, True)
        assert planned["values"]["beta"] == 0.1
        assert planned["origin"]["beta"].startswith("auto: ")
        assert planned["origin"]["desirable_weight"] == "auto: 12 liked, 12 disliked, by weight"
        assert "lora_alpha = 8" in planned["text"]
        asked = client.post("/api/runs", json=body).json()
        assert (asked["method"], asked["recipe"], asked["state"]) == ("kto", "thumbs", "queued")
        trained = until(client, asked["id"], ("publishing",))
        assert trained["state"] == "publishing", trained["error"]
        assert trained["step"] == trained["total_steps"]
        assert (trained["values"]["beta"], trained["values"]["lora_alpha"]) == (0.1, 8)
        assert trained["origin"]["lora_alpha"].startswith("auto: ")
        assert trained["origin"]["desirable_weight"].startswith("auto: ")
        assert any("desirable_weight = " in note for note in trained["notes"])
        # what a screen shows of a step
        shown = trained["metrics"]
        named = {
            "loss",
            "rewards/chosen",
            "rewards/rejected",
            "tokens_per_second",
            "memory_bytes",
            "seconds_left",
        }
        assert named <= set(shown)
        losses = [row["loss"] for row in client.get(f"/api/runs/{asked['id']}/metrics").json()]
        assert losses[-1] < losses[0]
        client.post(f"/api/runs/{asked['id']}/cancel")
        events = client.get(f"/api/runs/{asked['id']}/events").text
        assert "event: metrics" in events
        assert "tokens_per_second" in events
        assert '"state": "cancelled"' in events
    run = RunDirectory(tmp_path / "data" / "runs" / asked["id"])
    spec = run.spec()
    assert spec.recipe["params"]["per_device_train_batch_size"] == 8  # the recipe's
    assert spec.recipe["params"]["save_steps"] == 3  # the settings'
    report = run.report()
    assert report is not None
    assert report["heldout"]["after"]["n"] > 0
    assert (run.adapter / "README.md").read_text().count(spec.snapshot) == 1


def test_pairs_are_left_alone_by_a_plan(tiny: Path, tmp_path: Path) -> None:
    """Planning marks nothing as seen: the schedule still counts every pair as new."""
    engines = {"main": EngineSettings(base="tiny", model=str(tiny), url="http://127.0.0.1:9", api_key="none")}
    settings = Settings(data=tmp_path / "data", engines=engines, deployments={"assistant": {"base": "tiny"}})
    platform = build_platform(settings, URL)
    with TestClient(build_app(platform), base_url=URL, client=("127.0.0.1", 5000)) as client:
        client.post(
            "/api/pairs", json=[{k: p[k] for k in ("prompt", "chosen", "rejected")} for p in pairs(6)]
        )
        assert client.post("/api/runs/plan", json={"method": "dpo"}).json()["rows"] == 6
        assert client.get("/api/status").json()["pairs"] == {"total": 6, "new": 6}
