"""The routes that put an engine to sleep, added by vLLM's own code to its own kind of app."""

from __future__ import annotations

import inspect
from argparse import Namespace
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.serve.middleware.register import init_entrypoints_middleware

from serve.engine.spec import SLEEP_ROUTES
from serve.vllm_plugin.sleep_routes import LEVEL, SLEEP, WAKE


@pytest.mark.anyio
async def test_vllm_adds_the_routes_and_they_ask_for_the_engines_key(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    async def sleep(*given: object) -> None:
        inspect.signature(EngineClient.sleep).bind(None, *given)
        calls.append(given)

    async def wake_up(*given: object) -> None:
        inspect.signature(EngineClient.wake_up).bind(None, *given)
        calls.append(given)

    monkeypatch.setenv("VLLM_API_KEY", "secret")
    app = FastAPI()
    app.state.engine_client = SimpleNamespace(sleep=sleep, wake_up=wake_up)
    allowed = {
        "allowed_origins": ["*"],
        "allow_credentials": False,
        "allowed_methods": ["*"],
        "allowed_headers": ["*"],
    }
    args = Namespace(api_key=None, enable_request_id_headers=False, middleware=[SLEEP_ROUTES], **allowed)
    init_entrypoints_middleware(args, app, ())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as http:
        for key in (None, "wrong"):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            assert [(await http.post(path, headers=headers)).status_code for path in (SLEEP, WAKE)] == [
                401,
                401,
            ]
        assert calls == []
        headers = {"authorization": "Bearer secret"}
        assert [(await http.post(path, headers=headers)).status_code for path in (SLEEP, WAKE)] == [200, 200]
    assert calls == [(LEVEL, "wait"), (None,)]
