"""A base model added to a running platform: chat, a training run on it, its release promoted and rolled back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.families import make_family
from tests.support.platform import PlatformProcess, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

FAMILY = "gemma3"
SETTINGS = """
# the only engine of the start is elsewhere, and never answers
[engines.main]
base = "elsewhere"
url = "http://127.0.0.1:9"

[deployments.assistant]
base = "elsewhere"

[training]
keep_warm = false
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """`trimtab up` without an engine of its own."""
    running = PlatformProcess(tmp_path_factory.mktemp("models") / "data", SETTINGS)
    try:
        yield running.start(ready=False)
    finally:
        running.stop()


def trimtab(platform: PlatformProcess, *arguments: str) -> str:
    """Run a command on the platform's data directory; it must end well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
    done = subprocess.run(
        [sys.executable, "-m", "trimtab", *arguments, "--data", str(platform.data)],
        env=environment,
        cwd=platform.data.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def chat(platform: PlatformProcess, model: str) -> tuple[str, str]:
    """Return which release answered, and what."""
    body = {"model": model, "messages": [{"role": "user", "content": "Name a bird."}], "max_tokens": 8}
    answer = platform.request("POST", "/v1/chat/completions", json={**body, "temperature": 0})
    assert answer.is_success, answer.text
    return answer.headers["X-Trimtab-Release"], answer.json()["choices"][0]["message"]["content"]


def test_a_base_model_is_added_trained_and_rolled_back_without_a_restart(
    platform: PlatformProcess, tmp_path: Path
) -> None:
    model = make_family(tmp_path / FAMILY, FAMILY)
    pid = platform.process.pid if platform.process else 0
    said = trimtab(platform, "models", "add", "small", str(model), "--deployment", "helper")
    assert "its engine starts now" in said
    assert platform.config.read_text().startswith(SETTINGS)

    def state() -> str:
        (row,) = [row for row in platform.get("/api/models") if row["name"] == "small"]
        return str(row["engines"][0]["state"])

    wait_for(lambda: state() == "ready", 600, platform.say)
    before = chat(platform, "helper")
    assert before[0] == "helper@1"
    rows: list[dict[str, Any]] = [
        {"prompt": f"{number} birds?", "chosen": "A wren.", "rejected": "An owl and a lark."}
        for number in range(12)
    ]
    platform.post("/api/pairs", rows)
    params = {"max_steps": 2, "max_length": 128, "per_device_train_batch_size": 2, "learning_rate": 1e-2}
    asked = {
        "method": "dpo",
        "deployment": "helper",
        "params": params,
        "rollout": "promote",
        "gate": "report",
    }
    run = platform.run_to_end(platform.post("/api/runs", asked)["id"])
    assert run["state"] == "stable", run
    after = chat(platform, "helper")
    assert after[0] == run["release"] == "helper@2"
    assert after[1] != before[1]
    trimtab(platform, "rollout", "rollback", "helper")
    assert chat(platform, "helper") == before
    assert platform.process is not None
    assert platform.process.pid == pid
