"""The suite against a scripted server. On a real engine: tests/serve/test_suite_on_engine.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from align_helpers import likes, pairs, write_rows

from align.errors import DataError
from align.evaluation.suite import ChatApi, EvaluationError, run_suite

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)  # a handler that still waits is not waited for
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """Prompt ids 1 2 3; an answer adds one token a letter, of log-probability -1 (chosen) or -2 (rejected)."""
    last = body["messages"][-1]
    text = last["content"] if last["role"] == "assistant" else ""
    each = {"good": -1.0, "bad": -2.0}.get(text, -3.0)
    ids = [1, 2, 3, *range(10, 10 + len(text))]
    logprobs = [None] + [{str(i): {"logprob": each if i >= 10 else -0.5}} for i in ids[1:]]
    return {"prompt_token_ids": ids, "prompt_logprobs": logprobs, "usage": {"completion_tokens": 7}}


def heldout(tmp_path: Path, n: int = 3) -> Path:
    rows = [{**row, "chosen": "good", "rejected": "bad"} for row in pairs(n)]
    return write_rows(tmp_path / "heldout.parquet", rows)


async def test_sums_by_hand_and_an_overloaded_platform_is_asked_again(tmp_path: Path) -> None:
    refusals = [429, 503]
    bodies: list[dict[str, Any]] = []

    async def handler(request: web.Request) -> web.Response:
        if refusals:
            return web.json_response({}, status=refusals.pop(), headers={"Retry-After": "0.1"})
        bodies.append(await request.json())
        return web.json_response(answer(bodies[-1]))

    async with server(handler) as url, ChatApi(url, headers={"X-Test": "1"}) as api:
        report = await run_suite(api, "x@2", None, heldout(tmp_path), "quick")
    measures = report["measures"]
    # good: 4 tokens of -1; bad: 3 tokens of -2.
    assert measures["preference_accuracy"]["release"]["value"] == 1.0
    assert measures["loss"]["release"]["value"] == 1.0
    assert measures["answer_tokens"]["release"]["value"] == 7
    assert all(body["store"] is False for body in bodies)
    assert {body["max_tokens"] for body in bodies if body.get("temperature") == 0} == {1}
    assert [body["max_tokens"] for body in bodies if "temperature" not in body] == [32, 32]


async def test_loss_of_likes_counts_liked_answers_only(tmp_path: Path) -> None:
    """The reward's sign is compared with the label; `loss` is over what was liked."""

    async def handler(request: web.Request) -> web.Response:
        body = await request.json()
        found = answer(body)
        if body["model"] == "x@2":  # the newer release finds every answer half as likely again
            for entry in found["prompt_logprobs"][1:]:
                for place in entry.values():
                    place["logprob"] -= 0.5
        return web.json_response(found)

    rows = [{**row, "completion": "good" if row["label"] else "bad"} for row in likes(4)]
    file = write_rows(tmp_path / "heldout.parquet", rows)
    async with server(handler) as url, ChatApi(url) as api:
        report = await run_suite(api, "x@2", "x@1", file, "quick")
    measures = report["measures"]
    assert measures["loss"]["release"] == {"value": 1.5, "low": 1.5, "high": 1.5, "n": 2}
    assert measures["loss"]["against"]["value"] == 1.0
    assert measures["reward_accuracy"]["release"]["value"] == 0.5  # right where it was disliked


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, {"error": {"message": "no model x@9"}}, "no model x@9"),
        (500, "oops", "oops"),
        (200, {"prompt_logprobs": []}, "prompt_token_ids"),
        (200, {"prompt_token_ids": [1, 2], "prompt_logprobs": None}, "prompt_logprobs"),
    ],
)
async def test_error_of_the_platform_is_reported(status: int, body: Any, words: str, tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return (
            web.json_response(body, status=status)
            if isinstance(body, dict)
            else web.Response(text=body, status=status)
        )

    async with server(handler) as url, ChatApi(url, retries=0) as api:
        with pytest.raises(EvaluationError, match=words):
            await run_suite(api, "x@9", None, heldout(tmp_path), "quick")


async def test_a_connection_that_the_server_closes_is_asked_again(tmp_path: Path) -> None:
    """A kept connection may be closed at the moment that it is used: one such request failed a whole run."""
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked <= 2:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"choices": []})

    async with server(handler) as url, ChatApi(url, retries=2) as api:
        assert await api.chat({"model": "x@1"}) == ({"choices": []}, pytest.approx(0, abs=60))
        assert asked == 3
    async with server(handler) as url, ChatApi(url, retries=1) as api:
        asked = 0
        with pytest.raises(EvaluationError, match="reached"):
            await api.chat({"model": "x@1"})


async def test_bad_arguments(tmp_path: Path) -> None:
    async with ChatApi("http://127.0.0.1:9", timeout_s=1) as api:
        with pytest.raises(EvaluationError, match="quick, default, full"):
            await run_suite(api, "x", None, heldout(tmp_path), "huge")
        with pytest.raises(DataError, match="cannot be read"):
            await run_suite(api, "x", None, tmp_path / "none.parquet", "quick")
        with pytest.raises(DataError, match="no held-out rows"):
            await run_suite(api, "x", None, write_rows(tmp_path / "empty.parquet", []), "quick")
        with pytest.raises(EvaluationError, match="reached"):
            await run_suite(api, "x", None, heldout(tmp_path), "quick")


async def test_it_can_be_cancelled(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        waiting.set()
        await asyncio.sleep(60)
        return web.Response()

    async with server(handler) as url, ChatApi(url) as api:
        task = asyncio.create_task(run_suite(api, "x", None, heldout(tmp_path), "quick"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
