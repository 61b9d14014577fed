"""The gateway in front of the shared engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from serve.engine.pool import EnginePool
from tests.serve.conftest import BASE
from tests.serve.gateway_harness import KEY, Part, running, stub_pool
from tests.support import stub_engine

HI = [{"role": "user", "content": "Hello there"}]


CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
async def part(pool: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Part]:
    await pool.engines(BASE)[0].wait_ready(500)
    async with running(pool, tmp_path_factory.mktemp("platform"), BASE) as part:
        yield part


@pytest.fixture(scope="module")
async def stub_part(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[Part]:
    """The gateway in front of a stub engine."""
    async with (
        stub_pool(tmp_path_factory.mktemp("stub")) as pool,
        running(pool, tmp_path_factory.mktemp("store"), stub_engine.MODEL) as part,
    ):
        yield part


@pytest.fixture
async def gpt(part: Part) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=part.url + "/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(part: Part) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=part.url, api_key=KEY, max_retries=0) as client:
        yield client


async def post(part: Part, body: Any, path: str = CHAT, **kwargs: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}"} | kwargs.pop("headers", {})
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=120) as http:
        content = body if isinstance(body, bytes) else None
        json = None if isinstance(body, bytes) else body
        return await http.post(part.url + path, json=json, content=content, headers=headers, **kwargs)
