"""What the gateway refuses: unknown models, bad requests, large bodies, keys and roles, and an engine that is not there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.engine.pool import EnginePool
from serve.metering.limits import Limits
from store.accounts import keys
from tests.serve.conftest import BASE, tiny_spec
from tests.serve.gateway.conftest import CHAT, HI, post
from tests.serve.gateway_harness import KEY, Part, running
from trimtab_client import ApiError, AsyncClient

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


def assert_openai_error(response: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    return str(error["message"])


async def test_an_unknown_model_names_the_accepted_ones(part: Part) -> None:
    response = await post(part, {"model": "gpt-4", "messages": HI})
    message = assert_openai_error(response, 404, "model_not_found", "model")
    assert "Accepted: assistant" in message
    assert "assistant@1" in response.json()["error"]["accepted"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_json", None),
        (b"[]", 400, "invalid_json", None),
        ({"messages": HI}, 400, "invalid_request", "model"),
        ({"model": "assistant"}, 400, "invalid_request", "messages"),
        ({"model": "assistant", "messages": [{"role": "x", "content": ""}]}, 400, "invalid_request", "messages[0].role"),
        ({"model": "assistant", "messages": HI, "temperature": -1}, 400, "refused_by_engine", "temperature"),
    ],
)  # fmt: skip
async def test_bad_requests(part: Part, body: Any, status: int, code: str, param: str | None) -> None:
    message = assert_openai_error(await post(part, body), status, code, param)
    assert not re.search(r"\ba-[0-9a-f]{16}\b", message)


async def test_context_too_long_is_a_clear_error(part: Part) -> None:
    response = await post(part, {"model": "assistant", "messages": [{"role": "user", "content": "x" * 9000}]})
    assert response.status_code == 400
    assert "4096" in response.json()["error"]["message"]


async def test_other_paths_and_methods(part: Part) -> None:
    assert_openai_error(await post(part, {}, "/v1/embeddings"), 404, "not_found")
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        assert_openai_error(await http.get(part.url + CHAT), 405, "method_not_allowed")


async def test_a_large_body_is_refused(pool: EnginePool, tmp_path: Path) -> None:
    async with running(pool, tmp_path, BASE, Limits(max_body_bytes=1000)) as small:
        big = {"model": "assistant", "messages": [{"role": "user", "content": "x" * 2000}]}
        assert_openai_error(await post(small, big), 413, "body_too_large")

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 100

        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            response = await http.post(
                small.url + CHAT, content=pieces(), headers={"Authorization": f"Bearer {KEY}"}
            )
        assert_openai_error(response, 413, "body_too_large")


async def test_no_engine_yet(tiny_base: Path, tmp_path: Path) -> None:
    idle = EnginePool([tiny_spec(tiny_base, "idle")], tmp_path)  # never started
    async with running(idle, tmp_path, BASE) as part:
        response = await post(part, {"model": "assistant", "messages": HI})
        assert_openai_error(response, 503, "engine_unavailable")
        assert int(response.headers["retry-after"]) >= 1
        with pytest.raises(ApiError) as caught:
            await part.client.chat.complete("assistant", HI)
        assert caught.value.retry_after is not None


async def test_keys_and_roles(pool: EnginePool, tmp_path: Path) -> None:
    async with running(pool, tmp_path, BASE) as part:
        _, chat = keys.create(part.db, "chatter", ["chat"])
        await asyncio.sleep(1.1)  # single-user mode is looked up once a second
        body = {"model": "assistant", "messages": HI, "max_tokens": 1}
        wrong = await post(part, body, headers={"Authorization": "Bearer wrong"})
        assert_openai_error(wrong, 401, "unauthenticated")
        assert wrong.headers["www-authenticate"] == "Bearer"
        mine = {"Authorization": f"Bearer {chat}"}
        assert (await post(part, body, headers=mine)).status_code == 200
        for_another = await post(part, body, headers=mine | {"X-Trimtab-User": "ada"})
        assert_openai_error(for_another, 403, "forbidden")
        async with AsyncClient(part.url, "wrong") as stranger:
            with pytest.raises(ApiError) as caught:
                await stranger.models()
            assert caught.value.status == 401
