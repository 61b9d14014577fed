"""The gateway in front of the shared engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from serve.engine.pool import EnginePool
from tests.serve.conftest import BASE
from tests.serve.gateway_harness import KEY, Part, running

HI = [{"role": "user", "content": "Hello there"}]


CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
async def part(pool: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Part]:
    await pool.engines(BASE)[0].wait_ready(500)
    async with running(pool, tmp_path_factory.mktemp("platform"), BASE) as part:
        yield part


async def post(part: Part, body: Any, path: str = CHAT, **kwargs: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}"} | kwargs.pop("headers", {})
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=120) as http:
        content = body if isinstance(body, bytes) else None
        json = None if isinstance(body, bytes) else body
        return await http.post(part.url + path, json=json, content=content, headers=headers, **kwargs)
