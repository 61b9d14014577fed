"""What a request is charged, however it ends: the gateway over real sockets, before an engine that ends as it is told."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serve.auth import Principal
from serve.engine.pool import EnginePool
from serve.errors import RequestError
from serve.gateway.exchange import Answer, Exchange, Recording
from serve.gateway.protocols import PROTOCOLS
from serve.metering.limits import Limits
from serve.metering.usage_writer import UsageWriter
from store.accounts import keys
from store.privacy import erasure
from tests.serve.gateway_harness import KEY, Part, running, stub_pool
from tests.support import stub_engine

pytestmark = pytest.mark.anyio
BASE = stub_engine.MODEL
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
REPORTED = (1, 90, 70)
"""Requests, prompt and completion tokens of an answer whose usage the engine reports."""


@pytest.fixture(scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[EnginePool]:
    async with stub_pool(tmp_path_factory.mktemp("stub")) as pool:
        yield pool


@pytest.fixture
async def part(pool: EnginePool, tmp_path: Path) -> AsyncIterator[Part]:
    async with running(pool, tmp_path, BASE) as part:
        yield part


def headers(who: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}", "X-Trimtab-User": who}


def body(text: str, path: str = CHAT, **more: Any) -> dict[str, Any]:
    asked = {"prompt": text} if path == COMPLETIONS else {"messages": [{"role": "user", "content": text}]}
    return {"model": "assistant", "stream": True, **asked, **more}


async def post(part: Part, who: str, text: str, path: str = CHAT, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as http:
        return await http.post(part.url + path, json=body(text, path, **more), headers=headers(who))


async def leave(part: Part, who: str, text: str, words: int, path: str = CHAT, **more: Any) -> None:
    """Ask, and close the connection once `words` words have come."""
    async with (
        httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as http,
        http.stream("POST", part.url + path, json=body(text, path, **more), headers=headers(who)) as response,
    ):
        seen = 0
        async for line in response.aiter_lines():
            seen += '"word "' in line
            if seen == words:
                break
    await idle(part)


async def idle(part: Part) -> None:
    end = time.monotonic() + 5
    while part.gateway.rate_limiter.outstanding:
        assert time.monotonic() < end, "the request is still under way"
        await asyncio.sleep(0.01)


def used(part: Part, holder: str) -> tuple[int, int, int]:
    today, month = part.gateway.rate_limiter.counter.spent(holder)
    assert today == month
    return today.requests, today.prompt_tokens, today.completion_tokens


# ---- answers that end well


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("store", [True, False])
async def test_every_answer_is_counted_as_the_engine_reports_it(
    part: Part, path: str, stream: bool, store: bool
) -> None:
    assert (await post(part, "ada", "say 3", path, stream=stream, store=store)).status_code == 200
    await idle(part)
    assert used(part, "user ada") == REPORTED


async def test_the_user_and_the_key_are_both_charged(part: Part) -> None:
    key, secret = keys.create(part.db, "ci", ["ops"])
    for who in ({}, {"X-Trimtab-User": "ada"}):
        async with httpx.AsyncClient(trust_env=False, verify=False) as http:
            mine = {"Authorization": f"Bearer {secret}"} | who
            await http.post(part.url + CHAT, json=body("say 1"), headers=mine)
    await idle(part)
    assert used(part, key.id) == (2, 180, 140)
    assert used(part, "user ada") == REPORTED


async def test_answers_from_within_are_counted(part: Part) -> None:
    rater = Principal("ada", frozenset({"rater"}), "session", "ada")
    await part.gateway.complete(rater, body("say 3"), sticky="x")
    assert used(part, "user ada") == REPORTED
    text = part.metrics.render().decode()
    assert re.search(r'trimtab_requests_total\{code="200",.*lane="stable".*\} 1\.0', text)
    assert re.search(r'trimtab_tokens_total\{.*kind="completion".*\} 70\.0', text)


async def test_a_failed_answer_from_within_is_counted_as_failed_and_costs_nothing(part: Part) -> None:
    rater = Principal("ada", frozenset({"rater"}), "session", "ada")
    with pytest.raises(RequestError):
        await part.gateway.complete(rater, body("refuse"), sticky="x")
    assert used(part, "user ada") == (0, 0, 0)
    assert part.gateway.rate_limiter.outstanding == 0
    assert 'trimtab_requests_total{code="400"' in part.metrics.render().decode()


# ---- answers that do not


async def test_who_leaves_pays_for_what_went_out(part: Part) -> None:
    await leave(part, "ada", "hold 5", 5)
    # "hold 5" is six bytes: two tokens at four bytes each
    assert used(part, "user ada") == (1, 2, 5)
    text = part.metrics.render().decode()
    assert re.search(r'trimtab_tokens_total\{.*kind="completion".*\} 5\.0', text)
    assert re.search(r'trimtab_tokens_total\{.*kind="prompt".*\} 2\.0', text)


async def test_the_events_that_say_roles_are_no_tokens(part: Part) -> None:
    await leave(part, "ada", "hold 4", 4, n=2)
    assert used(part, "user ada") == (1, 2, 4)


async def test_who_leaves_a_completion_pays_too(part: Part) -> None:
    await leave(part, "ada", "hold 3", 3, COMPLETIONS)
    assert used(part, "user ada") == (1, 2, 3)


async def test_a_system_prompt_of_the_release_is_part_of_the_prompt(part: Part) -> None:
    from store.rollout import deployments, releases

    made = releases.create(part.db, "assistant", BASE, system_prompt="x" * 400)
    deployments.promote(part.db, "assistant", "test", made.ref)
    await part.reconciler.refresh()
    await leave(part, "ada", "hold 1", 1)
    assert used(part, "user ada") == (1, 102, 1)


async def test_a_stream_that_breaks_is_paid_for_as_far_as_it_came(part: Part) -> None:
    answer = await post(part, "ada", "break 3")
    assert "stream_broken" in answer.text
    await idle(part)
    assert used(part, "user ada") == (1, 2, 3)


async def test_request_that_never_began_costs_nothing(part: Part) -> None:
    assert (await post(part, "ada", "refuse")).status_code == 400
    assert (await post(part, "ada", "refuse", stream=False)).status_code == 400
    with pytest.raises(httpx.ReadTimeout):
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=0.5) as http:
            await http.post(part.url + CHAT, json=body("wait"), headers=headers("ada"))
    await idle(part)
    assert used(part, "user ada") == (0, 0, 0)


async def test_the_turn_of_who_left_is_recorded_without_a_guess(part: Part) -> None:
    await leave(part, "ada", "hold 2", 2)
    await part.recorder.flush()
    rows = part.db.read().execute("select completion_tokens, finish_reason from completions").fetchall()
    assert rows == [(None, "client_stopped")]


# ---- people who are erased meanwhile


async def test_requests_in_flight_during_an_erasure_store_nothing(part: Part) -> None:
    writer = UsageWriter(part.db, part.gateway.rate_limiter.counter)
    await post(part, "ada", "say 1")
    async with (
        httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as http,
        http.stream("POST", part.url + CHAT, json=body("hold 2"), headers=headers("ada")) as response,
    ):
        lines = response.aiter_lines()  # kept: a generator that nobody holds closes the connection
        async for line in lines:
            if '"word "' in line:
                break
        await part.recorder.flush()
        asked = [{"role": "user", "content": "waits to be written"}]
        kept = Recording("conv-1", asked, False, "assistant", "assistant", "ada", None, PROTOCOLS[CHAT])
        body_of_it = b'{"id": "chatcmpl-9", "choices": [{"message": {"content": "word"}}]}'
        target = part.gateway.table.resolve("assistant", "x")
        part.recorder.put(Exchange(kept, Answer(200, target, chunks=[body_of_it])))
        with writer.erasing(["user ada"]):
            assert erasure.erase_person(part.db, "ada").removed["completions"] == 1
    await idle(part)
    await part.recorder.flush()
    assert writer.flush()
    tables = ("conversations", "messages", "completions", "usage")
    counts = [part.db.read().execute(f"select count(*) from {table}").fetchone() for table in tables]
    assert counts == [(0,)] * 4
    await post(part, "ada", "say 2")
    await idle(part)
    await part.recorder.flush()
    assert writer.flush()
    names = part.db.read().execute(
        "select user_name from conversations union all select name from usage where holder = 'user ada'"
    )
    assert names.fetchall() == [("ada",)] * 2, "what they say afterwards is new"


# ---- budgets


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        (Limits(tokens_per_minute=6), "rate_limit_exceeded", "6 tokens a minute"),
        (Limits(tokens_per_day=6), "insufficient_quota", "ada has used its 6 tokens a day; .* 00:00 UTC"),
        (Limits(tokens_per_month=6), "insufficient_quota", "ada has used its 6 tokens a month; .*-01 00:00 UTC"),
        (Limits(requests_per_day=1), "insufficient_quota", "ada has used its 1 requests a day"),
    ],
)  # fmt: skip
async def test_leaving_does_not_get_round_a_budget(
    pool: EnginePool, tmp_path: Path, limits: Limits, code: str, said: str
) -> None:
    async with running(pool, tmp_path, BASE, limits) as part:
        await leave(part, "ada", "hold 5", 5)
        theirs = {"base_url": part.url + "/v1", "default_headers": {"X-Trimtab-User": "ada"}}
        async with openai.AsyncOpenAI(api_key=KEY, max_retries=0, **theirs) as client:
            with pytest.raises(openai.RateLimitError, match=said) as caught:
                await client.chat.completions.create(
                    model="assistant", messages=[{"role": "user", "content": "say 1"}]
                )
        assert caught.value.code == code
        wait = int(caught.value.response.headers["retry-after"])
        assert 1 <= wait <= 31 * 86_400
        assert (await post(part, "bob", "say 1")).status_code == 200
