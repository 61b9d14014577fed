"""An engine that ends before its answer began: a replica answers, or the client is asked to try again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from serve.gateway.openai_paths import CHAT
from tests.serve.gateway_harness import KEY, Part, stub_replicas

pytestmark = pytest.mark.anyio
FAULTS = ["error", "silence"]


@pytest.fixture(params=[1, 2])
async def part(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Part]:
    """The gateway over one stub engine, or two of which the first is asked first."""
    async with stub_replicas(tmp_path, request.param) as (part, apps):
        part.pool.apps = apps  # type: ignore[attr-defined]
        yield part


def apps(part: Part) -> list[Starlette]:
    return part.pool.apps  # type: ignore[attr-defined, no-any-return]


async def ask(part: Part, stream: bool, text: str = "say 3") -> httpx.Response:
    body = {"model": "assistant", "messages": [{"role": "user", "content": text}], "stream": stream}
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as http:
        return await http.post(part.url + CHAT, json=body, headers={"Authorization": f"Bearer {KEY}"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_reached_no_client_is_answered_by_a_replica_or_503(
    fault: str, stream: bool, part: Part
) -> None:
    apps(part)[0].state.fault = fault
    found = await asyncio.gather(*(ask(part, stream) for _ in range(8)))
    if len(apps(part)) == 2:
        assert {answer.status_code for answer in found} == {200}
        assert all(answer.text.count("word ") == 3 for answer in found)
        assert not any("EngineCore" in answer.text for answer in found)
    else:
        assert {answer.status_code for answer in found} == {503}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in found)
        assert {answer.json()["error"]["code"] for answer in found} == {"engine_unavailable"}
    assert all(engine.in_flight.outstanding == 0 for engine in part.pool.engines())


@pytest.mark.parametrize("stream", [False, True])
async def test_every_replica_lost_is_503(stream: bool, part: Part) -> None:
    for app, fault in zip(apps(part), FAULTS, strict=False):
        app.state.fault = fault
    answer = await ask(part, stream)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


async def test_an_engine_that_lives_and_fails_stays_a_502(part: Part) -> None:
    for app in apps(part):
        app.state.fault = "bug"
    answer = await ask(part, stream=False)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "engine_error"
    assert "EngineCore encountered an issue" in (await ask(part, stream=True)).text


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_the_platform_itself_asks_is_answered_by_a_replica_too(fault: str, part: Part) -> None:
    from serve.auth import Principal
    from serve.errors import EngineUnavailable

    apps(part)[0].state.fault = fault
    operator = Principal("operator", frozenset({"ops"}), "local key")
    body = {"model": "assistant", "messages": [{"role": "user", "content": "say 3"}]}
    asking = part.gateway.complete(operator, body, "x")
    if len(apps(part)) == 2:
        assert (await asking).body["choices"][0]["message"]["content"] == "word " * 3
    else:
        with pytest.raises(EngineUnavailable):
            await asking
