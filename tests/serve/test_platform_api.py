"""The whole platform in front of the shared engine: pair mode, and requests made from the OpenAPI document.

The platform runs in a thread of its own and reaches the engine over HTTP, as one that somebody else runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from starlette.testclient import TestClient

from serve.engine.engine import Engine
from serve.router import Route, Target, share
from tests.serve.conftest import BASE
from trimtab import ui_mount
from trimtab.api.comparisons.sampled import wants_pair
from trimtab.app import build_app, build_platform
from trimtab.config.rollout_sections import CanarySettings
from trimtab.config.serving_sections import DeploymentSettings, EngineSettings, LimitsSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

URL = "http://127.0.0.1:7860"
HI = [{"role": "user", "content": "Hello there"}]
SAMPLING = {"temperature": 1.0, "max_tokens": 6, "ignore_eos": True}
# What writes or reads files that the request names, and what streams until a run has ended.
NOT_ASKED = ("/api/backup", "/api/exports/{noun}", "/api/runs/{run_id}/events")


def number(low: float, high: float, kind: str = "number") -> dict[str, Any]:
    return {"type": kind, "minimum": low, "maximum": high}


# The fields that OpenAI's clients send most; `/v1` is OpenAI's document and not in ours.
SAMPLED: dict[str, Any] = {
    "model": {"enum": ["assistant", "assistant@1", BASE]},
    "stream": {"type": "boolean"},
    "n": number(1, 3, "integer"),
    "max_tokens": number(1, 6, "integer"),
    "temperature": number(0, 2),
    "top_p": number(0.1, 1),
    "seed": number(0, 2**31, "integer"),
    "stop": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 4}]},
    "presence_penalty": number(-2, 2),
    "logit_bias": {"type": "object", "additionalProperties": number(-100, 100)},
    "user": {"type": "string"},
    "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
    "store": {"type": "boolean"},
}
MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "user", "assistant"]},
        "content": {"type": "string", "maxLength": 40},
    },
}
CHAT = {
    "messages": {"type": "array", "minItems": 1, "maxItems": 3, "items": MESSAGE},
    "logprobs": {"type": "boolean"},
    "top_logprobs": number(0, 5, "integer"),
    "response_format": {"type": "object", "properties": {"type": {"enum": ["text", "json_object"]}}},
}
TEXT = {
    "prompt": {"type": "string", "maxLength": 40},
    "echo": {"type": "boolean"},
    "logprobs": number(0, 5, "integer"),
}


def posted(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": SAMPLED | fields}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"post": {"requestBody": body, "responses": {"200": {"description": "an answer"}}}}


V1 = {
    "openapi": "3.1.0",
    "info": {"title": "the gateway", "version": "1"},
    "paths": {
        "/v1/chat/completions": posted(CHAT, ["model", "messages", "max_tokens"]),
        "/v1/completions": posted(TEXT, ["model", "prompt", "max_tokens"]),
    },
}


@pytest.fixture
def platform(engine: Engine, tmp_path: Path) -> Platform:
    settings = Settings(
        data=tmp_path / "data",
        engines={"main": EngineSettings(base=BASE, url=engine.url, api_key=engine._key)},
        deployments={"assistant": DeploymentSettings(base=BASE, sampling=SAMPLING)},
        canary=CanarySettings(pair=1.0),
        limits=LimitsSettings(max_tokens=16),
    )
    return build_platform(settings, URL)


@pytest.fixture
def client(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(platform.runner, "submit", lambda run_id: None)  # runs are queued and not driven
    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())  # the screens are no part of the document
    app = build_app(platform)
    with TestClient(app, base_url=URL, client=("127.0.0.1", 5000), raise_server_exceptions=False) as client:
        for _ in range(200):
            if client.get("/readyz").status_code == 200:
                break
        yield client


@pytest.mark.engine
def test_a_canary_turn_is_shown_as_a_blind_pair(client: TestClient) -> None:
    ask = {"messages": HI, "deployment": "assistant", "conversation": "conv-1", "sampling": {"max_tokens": 8}}
    assert client.post("/api/comparisons/offer", json=ask).status_code == 204, "there is no canary"
    client.post("/api/releases", json={"deployment": "assistant", "system_prompt": "Be brief."})
    canary = {"release": "assistant@2", "weight": 1.0}
    assert client.post("/api/deployments/assistant/canary", json=canary).status_code == 200
    offered = client.post("/api/comparisons/offer", json=ask)
    assert offered.status_code == 201, offered.text
    pair = offered.json()
    assert set(pair) == {"id", "a", "b", "conversation", "show"}, "nothing says which is which"
    assert pair["conversation"] == "conv-1"
    assert pair["a"] != pair["b"]
    vote = client.post(f"/api/comparisons/{pair['id']}/vote", json={"choice": "a"}).json()
    assert set(vote["revealed"].values()) == {"assistant@1", "assistant@2"}
    fresh = client.post("/api/comparisons/offer", json=ask | {"conversation": None}).json()
    assert fresh["conversation"].startswith("conv-")
    client.post("/api/deployments/assistant/canary", json=canary | {"weight": 0.0})
    assert client.post("/api/comparisons/offer", json=ask).status_code == 204, "no turn is the canary's"


def test_pairs_are_a_share_of_the_canarys_turns() -> None:
    stable = Target("m", "m", "m@1", "rel-1", "b", lane="stable")
    route = Route(stable, replace(stable, release="m@2", lane="canary"), 0.5)
    turns = [(f"c{n}", f"c{n} 1") for n in range(2000)]
    shown = [sticky for sticky, turn in turns if wants_pair(route, "m", sticky, turn, 0.2)]
    assert all(share("m", sticky) < 0.5 for sticky in shown)
    assert 0.15 < len(shown) / sum(share("m", s) < 0.5 for s, _ in turns) < 0.25
    assert not any(wants_pair(route, "m", sticky, turn, 0.0) for sticky, turn in turns)
    assert not any(wants_pair(Route(stable), "m", sticky, turn, 1.0) for sticky, turn in turns)


@pytest.mark.engine
@pytest.mark.slow
def test_no_request_of_the_openapi_document_makes_the_platform_fail(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that fit the document and requests that do not: answers, errors of the caller, and never a 5xx."""
    monkeypatch.chdir(tmp_path)
    documents = [client.get("/api/openapi.json").json(), V1]
    modes = list(schemathesis.GenerationMode)
    asked: set[str] = set()
    faults: dict[str, str] = {}

    def check(case: Any) -> None:
        asked.add(f"{case.method} {case.path}")
        wire = case.as_transport_kwargs(base_url=URL)
        answer = client.request(**{key: wire[key] for key in wire if key in TAKES and wire[key] is not None})
        if answer.status_code >= 500:
            faults[f"{case.method} {case.path}"] = f"{answer.status_code} {answer.text[:300]} for {wire}"

    for found in [f for d in documents for f in schemathesis.openapi.from_dict(d).get_all_operations()]:
        operation = found.ok()
        if operation.path in NOT_ASKED:
            continue
        for mode in modes:
            drawn = hypothesis.given(case=operation.as_strategy(generation_mode=mode))(check)
            with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing to get wrong
                hypothesis.settings(
                    max_examples=20 if operation.path in V1["paths"] else 5, deadline=None, database=None, derandomize=True,
                    suppress_health_check=list(hypothesis.HealthCheck),
                )(drawn)()  # fmt: skip
    assert len(asked) > 40
    assert not faults, "\n".join(f"{where}: {what}" for where, what in faults.items())


TAKES = ("method", "url", "params", "headers", "cookies", "json", "data", "content", "files")
