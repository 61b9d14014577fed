"""The command line against a running platform, as a shell would use it: data in, a watched SFT run, rollout, chat."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.platform import PlatformProcess
from tests.support.prompts import exchanges

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]


def trimtab(platform: PlatformProcess, *arguments: str, said: str = "") -> str:
    """What a command prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", "from trimtab.cli import app; app()", *arguments],
        env=os.environ | {"TRIMTAB_URL": platform.url, "TRIMTAB_KEY": platform.key},
        input=said,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def as_json(platform: PlatformProcess, *arguments: str) -> Any:
    return json.loads(trimtab(platform, *arguments, "--json"))


@pytest.fixture(scope="module")
def watched(platform: PlatformProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `train sft --watch` says, on demonstrations that the command line imported."""
    file = tmp_path_factory.mktemp("cli") / "demos.jsonl"
    rows = [
        {"prompt": f"{number}. {question}", "completion": answer[:80]}
        for number, (question, answer) in enumerate(itertools.islice(exchanges(200), 12))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "12 accepted" in trimtab(platform, "demos", "import", str(file))
    assert "0 accepted, 12 known already" in trimtab(platform, "demos", "import", str(file))
    settings = ["max_steps=1", "max_length=64", "per_device_train_batch_size=2", "heldout_limit=2"]
    params = [part for setting in settings for part in ("-p", setting)]
    return trimtab(
        platform,
        "train",
        "sft",
        *params,
        "--rollout",
        "none",
        "--gate",
        "report",
        "--start",
        "base",
        "--watch",
    )


def test_a_watched_run_shows_its_steps_and_its_end(platform: PlatformProcess, watched: str) -> None:
    (run,) = [row for row in as_json(platform, "runs", "list") if row["method"] == "sft"]
    assert run["state"] == "published"
    assert f"{run['id']} ended as published, release {run['release']}" in watched
    assert "1/1" in watched
    assert as_json(platform, "runs", "show", run["id"])["step"] == 1
    listing = trimtab(platform, "runs", "list")
    assert run["id"] in listing, "an id is whole, on one line"
    lineage = as_json(platform, "releases", "lineage", run["release"])
    assert lineage["snapshot"]["id"] == run["snapshot"]


def test_run_events_list_states_and_steps(platform: PlatformProcess, watched: str) -> None:
    (run,) = [row for row in as_json(platform, "runs", "list") if row["method"] == "sft"]
    text = platform.request("GET", f"/api/runs/{run['id']}/events").text
    data = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    states = [event["state"] for event in data if "from" in event]
    assert states == ["queued", "snapshot", "training", "publishing", "evaluating", "published"]
    (step,) = [event for event in data if "step" in event]
    assert step["step"] == step["total_steps"] == 1
    assert step["loss"] > 0
    assert data[-1] == {"state": "published"}


def test_rollout_and_chat(platform: PlatformProcess, watched: str) -> None:
    (run,) = [row for row in as_json(platform, "runs", "list") if row["method"] == "sft"]
    stable = platform.get("/api/deployments/assistant")["stable"]
    trimtab(platform, "rollout", "promote", "assistant", run["release"])
    said = trimtab(platform, "chat", "--max-tokens", "16", said="Say hello.\n\n")
    assert f"{run['release']}:" in said
    trimtab(platform, "rollout", "rollback", "assistant")
    assert platform.get("/api/deployments/assistant")["stable"] == stable


def test_status_and_exports(platform: PlatformProcess, tmp_path: Path) -> None:
    assert "assistant" in trimtab(platform, "status")
    file = tmp_path / "pairs.jsonl"
    trimtab(platform, "pairs", "export", str(file))
    assert len(file.read_text().splitlines()) == platform.get("/api/status")["pairs"]["total"]
