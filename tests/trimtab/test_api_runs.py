"""Runs by the API: plans, refusals, and the events of a run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from store.rollout import runs
from tests.trimtab.conftest import BASE, problem
from trimtab.api.runs.routes import _events
from trimtab.platform import Platform
from trimtab.runs import planning


def config(platform: Platform) -> None:
    """A base of which nothing is there but what a plan reads: its shape and a tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    directory = platform.paths.model(BASE)
    directory.mkdir(parents=True)
    shape = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    (directory / "config.json").write_text(json.dumps(shape))
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))


def test_a_plan_says_what_a_run_would_need_and_starts_nothing(
    client: TestClient, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"method": "dpo", "recipe": "one-small-gpu", "params": {"r": 8}}
    assert "nothing to plan for" in problem(client.post("/api/runs/plan", json=body), 409)["detail"]
    client.post(
        "/api/pairs", json=[{"prompt": f"Q {n}?", "chosen": "yes it is", "rejected": "no"} for n in range(40)]
    )
    assert "tokenizer.json" in problem(client.post("/api/runs/plan", json=body), 409)["detail"]
    config(platform)
    found = client.post("/api/runs/plan", json=body).json()
    assert (found["rows"], found["device"]) == (40, "cpu")
    assert found["trainable_parameters"] == 20971520
    assert {"weights", "adapter", "optimiser", "activations"} <= set(found["parts"])
    assert found["total"] == pytest.approx(sum(found["parts"].values()))
    assert found["values"]["r"] == 8
    assert (found["origin"]["r"], found["origin"]["max_length"]) == ("params", "one-small-gpu")
    assert found["origin"]["save_steps"] == "settings"
    assert f"{found['trainable_parameters']:,}" in found["text"]
    assert client.get("/api/runs").json() == []

    monkeypatch.setattr(planning, "this_machine", lambda *_: planning.Machine("cpu", 4e9, 6e9))
    assert client.post("/api/runs/plan", json=body).json()["fits"] is False
    refused = problem(client.post("/api/runs", json=body), 422)
    assert "6.0 GB are there" in refused["detail"]
    assert client.get("/api/runs").json() == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recipe": "nothing-like-it"}, "params.recipe"),
        ({"recipe": "../../etc/passwd.toml"}, "params.recipe"),
        ({"recipe": "thumbs"}, "params.recipe"),
        ({"params": {"r": 512}}, "params.r"),
        ({"params": {"label_smoothing": "some"}}, "params.label_smoothing"),
        ({"method": "ppo"}, "method"),
    ],
)
def test_request_that_cannot_be_trained_is_rejected_at_once(
    client: TestClient, change: dict[str, Any], field: str
) -> None:
    refused = problem(client.post("/api/runs", json={"method": "dpo"} | change), 422)
    assert refused["field"] == field
    assert refused["accepted"]


def test_a_kto_run_needs_likes(client: TestClient) -> None:
    refused = problem(client.post("/api/runs", json={"method": "kto", "recipe": "thumbs"}), 409)
    assert "like and dislike" in refused["detail"]


async def what_is_done(platform: Platform, run: str) -> list[dict[str, Any]]:
    """The activities of a run's events; each is followed by the next one, then a step, then the run's end."""
    rows = [{"kind": "scored", "phase": "reference", "rows": done, "of": 9} for done in (4, 9)]
    rows.append({"kind": "step", "step": 1, "total_steps": 2})
    progress = platform.paths.run(run) / "progress.jsonl"
    progress.parent.mkdir(parents=True)

    def work() -> None:
        progress.write_text(json.dumps(rows.pop(0)) + "\n")

    def end() -> None:
        runs.move(platform.db, run, "failed", error={"kind": "crash", "message": "boom"})

    work()
    told = []
    async for event in _events(platform, run, 0):
        if event.startswith("event: activity"):
            told.append(json.loads(event.partition("data: ")[2]))
            work()
            if not rows:
                asyncio.get_running_loop().call_later(0.5, end)
    return told


def test_run_events_report_phases_between_steps(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.api.runs.routes.EVENT_POLL_S", 0.02)
    run = runs.create(platform.db, "dpo", "assistant").id
    for state in ("snapshot", "training"):
        runs.move(platform.db, run, state)
    told = asyncio.run(what_is_done(platform, run))
    platform.db.close()
    assert told == [{"phase": "reference", "done": done, "of": 9} for done in (4, 9)], "a step is no activity"
