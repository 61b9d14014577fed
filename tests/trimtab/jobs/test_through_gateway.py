"""Pairs made through the platform's own gateway: the release's name, system prompt, sampling and key are those of a chat."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from store.accounts import users
from tests.support import stub_engine
from tests.support.asgi import serving
from trimtab import ui_mount
from trimtab.app import build_app, build_platform, running
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings

LONG_S = 30


def engine(asked: list[dict[str, Any]]) -> Starlette:
    """An engine whose answers have another length for each seed."""

    async def answer(request: Request) -> Response:
        body = await request.json()
        asked.append(body)
        words = random.Random(f"{body['seed']} {body['messages'][-1]['content']}").randint(3, 40)
        text = " ".join(f"word{n}" for n in range(words))
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": text},
        }
        usage = {"prompt_tokens": 5, "completion_tokens": words, "total_tokens": 5 + words}
        return JSONResponse({"id": "chat-1", "model": stub_engine.MODEL, "choices": [choice], "usage": usage})

    chat = Route("/v1/chat/completions", answer, methods=["POST"])
    return Starlette(routes=[chat, Mount("/", stub_engine.app())])


@pytest.mark.anyio
@pytest.mark.parametrize("people", [False, True])
async def test_pairs_are_sampled_as_the_release_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, people: bool
) -> None:
    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())
    asked: list[dict[str, Any]] = []
    app: Any = None  # the platform's own address has to be known before it is built

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    async with serving(engine(asked)) as engine_url, serving(served) as url:
        engines = {"main": EngineSettings(base=stub_engine.MODEL, url=engine_url, api_key="none")}
        sampling = {"temperature": 0.7, "max_tokens": 77}
        deployments = {
            "assistant": {"base": stub_engine.MODEL, "system_prompt": "Be brief.", "sampling": sampling}
        }
        settings = Settings(
            data=tmp_path / "data", engines=engines, deployments=deployments, training={"keep_warm": False}
        )
        platform = build_platform(settings, url)
        if people:
            users.create(platform.db, "ada", ("ops",), "long enough a password")
        async with running(platform):
            app = build_app(platform)
            key = {"Authorization": f"Bearer {platform.key}"}
            async with httpx.AsyncClient(base_url=url, headers=key, timeout=LONG_S) as client:
                async with asyncio.timeout(LONG_S):
                    while not (await client.get("/readyz")).is_success:
                        await asyncio.sleep(0.05)
                    body = {"prompts": [f"Number {n}?" for n in range(9)], "rules": {"prefer": "shorter"}}
                    job = (await client.post("/api/pairs/make", json=body)).json()
                    while job["state"] in ("queued", "running"):
                        await asyncio.sleep(0.05)
                        job = (await client.get(f"/api/jobs/{job['id']}")).json()
        assert job["state"] == "done", job
        assert job["result"]["pairs"] > 3
    made = [body for body in asked if body["messages"][-1]["content"].startswith("Number")]
    assert len(made) == 4 * job["result"]["prompts"]
    for body in made:
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert body["temperature"] == 0.7
        assert body["max_tokens"] == 77
    assert {body["seed"] for body in made} == {1, 2, 3, 4}
