"""The platform's two ends: `kill -9` while a run trains, which loses nothing and leaves nothing behind, and Ctrl-C."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.support.platform import PlatformProcess, wait_for
from tests.support.prompts import exchanges

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

STEPS = 3


def gone(processes: list[psutil.Process]) -> bool:
    return not [process for process in processes if process.is_running() and process.status() != "zombie"]


def workers(platform: PlatformProcess) -> list[psutil.Process]:
    """The platform's worker processes; their guards have the same words on their command lines."""
    found = [row for row in platform.children() if "align.worker" in row.cmdline()]
    return [row for row in found if not any("guard.py" in word for word in row.cmdline())]


def test_killed_platform_resumes_its_run(platform: PlatformProcess) -> None:
    rows = [
        {"prompt": f"At last: {question}", "chosen": answer[:80], "rejected": answer[80:200] or "No."}
        for question, answer in itertools.islice(exchanges(200), 8)
    ]
    assert platform.post("/api/pairs", rows)["accepted"] == len(rows)
    stored = platform.get("/api/status")["pairs"]["total"]
    params = {
        "max_steps": STEPS,
        "max_length": 64,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "heldout_limit": 2,
    }
    wait_for(lambda: len(workers(platform)) == 1, 30, platform.say)
    waiting = workers(platform)
    run = platform.post("/api/runs", {"method": "dpo", "rollout": "none", "gate": "report", "params": params})
    wait_for(lambda: platform.get(f"/api/runs/{run['id']}")["step"] >= 1, 300, platform.say)
    assert workers(platform) == waiting, "the worker that had done its imports took the run"

    orphans = platform.kill()
    assert len(orphans) >= 4, "an engine and a worker, each under its guard"
    wait_for(lambda: gone(orphans), 30)

    platform.start(ready=False)
    assert platform.get("/api/status")["pairs"]["total"] == stored
    found = platform.run_to_end(run["id"], 600)
    assert found["state"] == "published", found["error"]
    assert found["step"] == STEPS
    states = [row["state"] for row in found["transitions"]]
    assert states.count("training") == 1, "it went on; it did not start over"
    progress = (platform.data / "runs" / run["id"] / "progress.jsonl").read_text()
    assert '"resum' in progress, "the worker says that it resumed from its checkpoint"


def test_a_stop_lets_an_answer_under_way_finish(platform: PlatformProcess) -> None:
    body = {
        "model": "assistant",
        "messages": [{"role": "user", "content": "Tell me about the sea."}],
        "stream": True,
        "max_tokens": 32,
        "min_tokens": 32,
    }
    data = ""
    with (
        ThreadPoolExecutor(1) as stopping,
        httpx.stream("POST", platform.url + "/v1/chat/completions", json=body, timeout=60) as answer,
    ):
        for text in answer.iter_text():
            if not data:
                stopped = stopping.submit(platform.stop)
            data += text
        below = stopped.result()
    assert '"finish_reason":"length"' in data
    assert data.endswith("data: [DONE]\n\n")
    assert len(below) >= 2, "an engine under its guard"
    wait_for(lambda: gone(below), 30)
