"""How long a suite takes is said from the engine's own pace, and answers are timed to their first token."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from align.evaluation.answering import chat_api
from align.evaluation.answering.chat_api import ChatApi, EvaluationError
from align.evaluation.answering.pace import Pace, row_tokens
from align.evaluation.suite import run_suite
from serve.gateway.stream_rewriter import error_event
from tests.support.stub_releases import Release as StubRelease
from tests.support.stub_releases import StubPlatform, write_heldout

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class SlowPlatform(StubPlatform):
    """Takes a time per token, one request after the other; streams where it is asked to and `streams` is set."""

    def __init__(self, per_token: float, streams: bool = True, **releases: StubRelease) -> None:
        super().__init__(**releases)
        self.per_token, self.streams, self.turn = per_token, streams, asyncio.Lock()

    def api(self) -> ChatApi:
        api = super().api()
        api._client = httpx.AsyncClient(
            base_url="http://platform", transport=httpx.MockTransport(self.slowly)
        )
        return api

    async def slowly(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if not self.streams:
            body.pop("stream", None)
            request = httpx.Request("POST", request.url, json=body)
        answer = self.handle(request)
        prompt = len(answer.json()["prompt_token_ids"]) if "return_token_ids" in body else 0
        if body["max_tokens"] > 1 and "return_token_ids" in body:
            answer = httpx.Response(
                200, json=answer.json() | {"usage": {"completion_tokens": body["max_tokens"]}}
            )
        async with self.turn:
            await asyncio.sleep((prompt / 20 + body["max_tokens"]) * self.per_token)
        return answer


async def test_a_suite_expects_more_of_a_slower_engine_before_it_starts(tmp_path: Path) -> None:
    heldout = write_heldout(tmp_path / "heldout.parquet", 4)
    seen: list[dict[str, Any]] = []

    class BeforeTheStart(Exception):
        """The expected time is known."""

    def stop(progress: dict[str, Any]) -> None:
        seen.append(progress)
        raise BeforeTheStart

    # So slow that what a busy machine adds to each request counts little.
    for per_token in (0.005, 0.05):
        stub = SlowPlatform(per_token, x_1=StubRelease(), x_2=StubRelease())
        async with stub.api() as api:
            with pytest.raises(BeforeTheStart):
                await run_suite(api, "x@2", "x@1", heldout, "quick", stop, probe=True)
    assert [progress["done"] for progress in seen] == [0, 0]
    assert 4 < seen[1]["seconds_left"] / seen[0]["seconds_left"] < 25


async def test_a_report_has_the_pace_and_the_expected_seconds(tmp_path: Path) -> None:
    per_token = 0.005  # so slow that what a busy machine adds to each request counts little
    heldout = write_heldout(tmp_path / "heldout.parquet", 4)
    stub = SlowPlatform(per_token, x_1=StubRelease(), x_2=StubRelease())
    seen: list[dict[str, Any]] = []
    async with stub.api() as api:
        report = await run_suite(api, "x@2", "x@1", heldout, "quick", seen.append, probe=True)
    assert seen[0]["done"] == 0
    assert seen[0]["seconds_left"] == pytest.approx(report["expected_seconds"], abs=0.06)
    assert report["pace"]["tokens_per_s"] < 1.05 / per_token  # a sleep may end a clock's tick early
    assert set(report["seconds_by_kind"]) == {"heldout", "answers", "texts"}


async def test_an_endpoint_that_says_nothing_of_tokens_has_the_assumed_pace(tmp_path: Path) -> None:
    heldout = write_heldout(tmp_path / "heldout.parquet", 4)
    async with StubPlatform(x_2=StubRelease()).api() as api:
        report = await run_suite(api, "x@2", None, heldout, "quick", probe=True)
    assert report["pace"] == Pace().to_json()


async def test_first_tokens_are_measured_where_the_endpoint_streams(tmp_path: Path) -> None:
    heldout = write_heldout(tmp_path / "heldout.parquet", 4)
    plain = SlowPlatform(0.0, streams=False, x_1=StubRelease(), x_2=StubRelease())
    streams = SlowPlatform(0.0, x_1=StubRelease(), x_2=StubRelease())
    reports = []
    for stub in (plain, streams):
        async with stub.api() as api:
            reports.append((await run_suite(api, "x@2", "x@1", heldout, "quick"))["measures"])
    assert "first_token_s" not in reports[0]
    assert set(reports[1]["first_token_s"]) == {"release", "against", "difference"}
    assert reports[1]["rep4"] == reports[0]["rep4"]


@pytest.mark.parametrize("message", [{"message": "engine gone"}, "engine gone"])
async def test_a_stream_that_breaks_off_is_an_error(message: Any) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        event = f"data: {json.dumps({'error': message})}\n\n".encode()
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=event)

    api = ChatApi("http://platform")
    api._client = httpx.AsyncClient(base_url="http://platform", transport=httpx.MockTransport(handle))
    async with api:
        with pytest.raises(EvaluationError, match="engine gone"):
            await api.stream({"model": "x"})


@pytest.mark.parametrize("losses", [2, 9])
async def test_an_engine_lost_within_a_stream_is_asked_again(
    losses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_api, "RETRY_S", 0.0)
    asked = 0

    def handle(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        begun = b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n'
        rest = error_event("engine gone", "stream_broken", 502)
        if asked > losses:
            rest = b'data: {"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]}\n\n'
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=begun + rest)

    api = ChatApi("http://platform")
    api._client = httpx.AsyncClient(base_url="http://platform", transport=httpx.MockTransport(handle))
    async with api:
        if losses > 5:
            with pytest.raises(EvaluationError, match="engine gone"):
                await api.stream({"model": "x"})
            assert asked == 6
            return
        answer, _, _ = await api.stream({"model": "x"})
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert asked == losses + 1


async def test_tool_calls_of_a_stream_are_joined() -> None:
    parts = [
        {"index": 0, "function": {"name": "find", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]
    events = [{"choices": [{"delta": {"tool_calls": [part]}}]} for part in parts]
    events.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    content = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=content)

    api = ChatApi("http://platform")
    api._client = httpx.AsyncClient(base_url="http://platform", transport=httpx.MockTransport(handle))
    async with api:
        answer, _, first = await api.stream({"model": "x"})
    assert first is not None
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "find", "arguments": '{"a":1}'}


def test_tokens_of_a_row_are_its_prompt_alone_and_with_each_answer() -> None:
    row = {
        "prompt": [{"role": "user", "content": "x" * 80}],
        "chosen": [{"role": "assistant", "content": "y" * 40}],
    }
    assert row_tokens({**row, "rejected": row["chosen"]}) == 3 * 60 + 2 * 10
    assert row_tokens(row) == 2 * 60 + 10
