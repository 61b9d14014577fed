"""The gateway over real sockets, in front of a real engine. The openai client is the judge of the wire format.

An error of `/v1` is `{"error": {"message", "type", "param", "code"}}`, at times with `accepted`.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from serve.engine.engine import Engine
from serve.gateway import responses
from serve.gateway.stream_rewriter import StreamRewriter
from serve.metering import token_estimate
from store.conversations import conversations, stored_conversations
from store.rollout import deployments, releases
from store.training_data import likes
from tests.serve.conftest import BASE, running_requests, until_running
from tests.serve.gateway.conftest import CHAT, HI, post
from tests.serve.gateway_harness import KEY, Part
from tests.support import raw_client

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


@pytest.fixture
async def oai(part: Part) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=part.url + "/v1", api_key=KEY, max_retries=0) as client:
        yield client


# ---- the openai client's paths


async def test_plain_chat(part: Part, oai: openai.AsyncOpenAI) -> None:
    raw = await oai.chat.completions.with_raw_response.create(model="assistant", messages=HI)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.model == "assistant@1"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8, "the release's sampling defaults apply"
    assert raw.headers["x-trimtab-release"] == "assistant@1"
    assert raw.headers["x-trimtab-lane"] == "stable"
    assert raw.headers["x-trimtab-conversation"].startswith("conv-")


async def test_streamed_chat_is_the_same_text(part: Part, oai: openai.AsyncOpenAI) -> None:
    whole = await oai.chat.completions.create(model="assistant", messages=HI)
    stream = await oai.chat.completions.create(model="assistant", messages=HI, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert all(c.choices for c in chunks), "usage was not asked for"
    assert {c.model for c in chunks} == {"assistant@1"}
    asked = await oai.chat.completions.create(
        model="assistant", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    last = [chunk async for chunk in asked][-1]
    assert last.usage is not None
    assert last.usage.completion_tokens == 8


async def test_fields_of_the_wire_format(oai: openai.AsyncOpenAI) -> None:
    answer = await oai.chat.completions.create(
        model="assistant",
        messages=HI,
        n=3,
        seed=7,
        temperature=1.0,
        max_tokens=4,
        logprobs=True,
        top_logprobs=2,
    )
    assert len(answer.choices) == 3
    content = answer.choices[0].logprobs
    assert content is not None
    assert len(content.content or []) == 4
    completion = await oai.completions.create(
        model=BASE, prompt="Once", max_tokens=5, temperature=0, echo=True
    )
    assert completion.choices[0].text.startswith("Once")
    assert completion.model == BASE


async def test_answers_of_a_form_that_was_asked_for(oai: openai.AsyncOpenAI) -> None:
    colour = {"type": "object", "properties": {"sea": {"enum": ["blue", "grey"]}}, "required": ["sea"],
              "additionalProperties": False}  # fmt: skip
    form: Any = {"type": "json_schema", "json_schema": {"name": "colour", "schema": colour, "strict": True}}
    more: Any = {"model": "assistant", "messages": HI, "max_tokens": 60, "extra_body": {"ignore_eos": False}}
    answer = await oai.chat.completions.create(response_format=form, **more)
    assert json.loads(answer.choices[0].message.content or "")["sea"] in ("blue", "grey")
    tool: Any = {"type": "function", "function": {"name": "paint", "parameters": colour, "strict": True}}
    named: Any = {"type": "function", "function": {"name": "paint"}}
    more["max_tokens"] = 160
    called = await oai.chat.completions.create(tools=[tool], tool_choice=named, **more)
    assert called.choices[0].message.tool_calls, called
    function: Any = called.choices[0].message.tool_calls[0]
    assert function.function.name == "paint"
    assert json.loads(function.function.arguments)["sea"] in ("blue", "grey")
    stream = await oai.chat.completions.create(tools=[tool], tool_choice=named, stream=True, **more)
    pieces = [c.choices[0].delta.tool_calls[0] async for c in stream if c.choices[0].delta.tool_calls]
    assert json.loads("".join(p.function.arguments or "" for p in pieces if p.function)) is not None


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_and_their_calls_are_recorded_and_the_conversation_goes_on(
    part: Part, oai: openai.AsyncOpenAI, streamed: bool
) -> None:
    sea = {
        "type": "object",
        "properties": {"sea": {"enum": ["blue"]}},
        "required": ["sea"],
        "additionalProperties": False,
    }
    tool: Any = {"type": "function", "function": {"name": "paint", "parameters": sea, "strict": True}}
    ident = f"conv-tools-{streamed}"
    more: Any = {
        "model": "assistant",
        "tools": [tool],
        "max_tokens": 160,
        "extra_body": {"ignore_eos": False},
    }
    more["extra_headers"] = {"X-Trimtab-Conversation": ident}
    more["tool_choice"] = {"type": "function", "function": {"name": "paint"}}
    if streamed:
        call: dict[str, Any] = {"type": "function", "function": {"name": "paint", "arguments": ""}}
        async for chunk in await oai.chat.completions.create(messages=HI, stream=True, **more):
            for piece in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
                call["id"] = piece.id or call["id"]
                call["function"]["arguments"] += (piece.function and piece.function.arguments) or ""
    else:
        answer = await oai.chat.completions.create(messages=HI, **more)
        call = (answer.choices[0].message.tool_calls or [])[0].model_dump()
    said: Any = [{"role": "assistant", "content": None, "tool_calls": [call]},
                 {"role": "tool", "tool_call_id": call["id"], "content": "painted"}]  # fmt: skip
    more["tool_choice"] = "none"
    second = await oai.chat.completions.create(messages=[*HI, *said], **more | {"max_tokens": 4})
    await part.recorder.flush()
    kept = stored_conversations.get(part.db, ident).to_json()["messages"]
    assert [message["role"] for message in kept] == ["user", "assistant", "tool", "assistant"]
    assert json.loads(kept[0]["tools"])[0]["function"]["name"] == "paint"
    assert kept[1]["tool_calls"][0]["function"] == call["function"]
    assert kept[1]["completion_id"], "what the client sent back is the answer that was recorded"
    assert kept[2]["tool_call_id"] == call["id"]
    conversations.like(part.db, second.id, True)
    rows = [row["prompt"] for row in likes.list_recent(part.db)]
    [made] = [prompt for prompt in rows if prompt[-1].get("tool_call_id") == call["id"]]
    assert made[0]["tools"] == kept[0]["tools"]
    assert made[1]["tool_calls"] == kept[1]["tool_calls"]


async def test_an_answer_that_is_continued_is_recorded_whole_beside_the_cut_one(
    part: Part, oai: openai.AsyncOpenAI
) -> None:
    named = {"X-Trimtab-Conversation": "continued"}
    asked = {"model": "assistant", "temperature": 0, "max_tokens": 6, "extra_headers": named}
    cut = (await oai.chat.completions.create(messages=HI, **asked)).choices[0]
    assert cut.finish_reason == "length"
    begun = cut.message.content or ""
    more = (
        await oai.chat.completions.create(
            messages=[*HI, {"role": "assistant", "content": begun}],
            extra_body={"continue_final_message": True, "add_generation_prompt": False},
            **asked,
        )
    ).choices[0]
    await part.recorder.flush()
    answer = stored_conversations.get(part.db, "continued").messages
    assert [message.role for message in answer] == ["user", "assistant"]
    assert answer[1].content == begun + (more.message.content or "")
    assert len(answer[1].versions) == 2
    first = stored_conversations.get(part.db, "continued", message=answer[1].versions[0]).messages[1]
    assert (first.content, first.finish_reason) == (begun, "length")


@pytest.mark.parametrize("choice", [None, "auto", "none", "required"])
async def test_a_request_with_tools_is_answered_by_default(
    oai: openai.AsyncOpenAI, choice: str | None
) -> None:
    """Agents send their tools with every request, whether or not the base was trained on tools."""
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 5}},
        "required": ["city"],
    }
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    more: Any = {"model": "assistant", "messages": HI, "max_tokens": 40, "extra_body": {"ignore_eos": False}}
    if choice:
        more["tool_choice"] = choice
    answer = await oai.chat.completions.create(tools=[tool], **more)
    assert answer.choices[0].finish_reason in ("stop", "length", "tool_calls")
    stream = await oai.chat.completions.create(tools=[tool], stream=True, **more)
    reasons = [c.choices[0].finish_reason async for c in stream if c.choices]
    assert reasons[-1] in ("stop", "length", "tool_calls")


async def test_seed_and_stop(oai: openai.AsyncOpenAI) -> None:
    warm: Any = {"model": "assistant", "messages": HI, "temperature": 1.0, "max_tokens": 12}
    first, again = [await oai.chat.completions.create(seed=11, **warm) for _ in range(2)]
    text = first.choices[0].message.content or ""
    assert text == again.choices[0].message.content
    mark = next(c for c in text[2:] if c.isascii() and c.isprintable())
    stopped = await oai.chat.completions.create(seed=11, stop=[mark], **warm)
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].message.content == text[: text.index(mark)]


async def test_the_engines_own_fields_pass_through(part: Part) -> None:
    body = {
        "model": "assistant", "messages": [*HI, {"role": "assistant", "content": "Hey"}], "max_tokens": 1,
        "prompt_logprobs": 0, "return_token_ids": True, "add_generation_prompt": False,
    }  # fmt: skip
    answer = (await post(part, body)).json()
    assert len(answer["prompt_logprobs"]) == len(answer["prompt_token_ids"])
    with_prompt = (await post(part, body | {"add_generation_prompt": True})).json()
    assert len(with_prompt["prompt_token_ids"]) > len(answer["prompt_token_ids"])


async def test_models_are_listed(part: Part, oai: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in oai.models.list()]
    assert names[0] == "assistant"
    assert {"assistant", "assistant@1", BASE} <= set(names)
    assert (await oai.models.retrieve("assistant@1")).id == "assistant@1"
    with pytest.raises(openai.NotFoundError, match="Accepted: assistant"):
        await oai.models.retrieve("gpt-4")


# ---- releases


async def test_a_release_is_a_prompt_too(part: Part) -> None:
    release = releases.create(
        part.db, "assistant", BASE, system_prompt="Speak like a pirate.", sampling={"max_tokens": 3}
    )
    await part.reconciler.refresh()
    body = {"messages": HI, "return_token_ids": True, "max_tokens": 1}
    plain = (await post(part, {**body, "model": "assistant"})).json()
    pinned = (await post(part, {**body, "model": release.ref})).json()
    own = [{"role": "system", "content": "Speak like a pirate."}, *HI]
    spelled = (await post(part, {**body, "model": BASE, "messages": own})).json()
    assert pinned["prompt_token_ids"] == spelled["prompt_token_ids"] != plain["prompt_token_ids"]
    mine = [{"role": "system", "content": "Mine."}, *HI]
    kept = (await post(part, {**body, "model": release.ref, "messages": mine})).json()
    same = (await post(part, {**body, "model": BASE, "messages": mine})).json()
    assert kept["prompt_token_ids"] == same["prompt_token_ids"]


async def test_a_canary_is_sticky_and_seen(part: Part) -> None:
    release = releases.create(part.db, "assistant", BASE)
    deployments.set_canary(part.db, "assistant", release.ref, 0.5)
    await part.reconciler.refresh()
    try:
        seen: dict[str, set[str]] = {}
        for n in range(12):
            for _ in range(2):
                answer = await post(
                    part,
                    {"model": "assistant", "messages": HI, "max_tokens": 1},
                    headers={"X-Trimtab-Conversation": f"conv-{n}"},
                )
                assert answer.headers["x-trimtab-conversation"] == f"conv-{n}"
                seen.setdefault(f"conv-{n}", set()).add(answer.headers["x-trimtab-lane"])
        assert all(len(lanes) == 1 for lanes in seen.values())
        assert set.union(*seen.values()) == {"stable", "canary"}
    finally:
        deployments.rollback(part.db, "assistant", "test")
        await part.reconciler.refresh()


# ---- recording


async def test_turns_are_recorded_unless_store_is_false(part: Part) -> None:
    conversation = "conv-recorded"
    deltas = [d async for d in part.client.chat.stream("assistant", HI, conversation=conversation)]
    text = "".join(d.text for d in deltas)
    await part.recorder.flush()
    kept = stored_conversations.get(part.db, conversation)
    assert [(m.role, m.content) for m in kept.messages] == [("user", "Hello there"), ("assistant", text)]
    assert kept.messages[1].completion_id == deltas[0].completion_id
    assert (deltas[0].release, deltas[0].lane, deltas[0].conversation) == (
        "assistant@1",
        "stable",
        conversation,
    )
    conversations.like(part.db, deltas[0].completion_id, True)
    before = part.recorder.recorded
    await part.client.chat.complete("assistant", HI, conversation="conv-unrecorded", store=False)
    await part.recorder.flush()
    assert part.recorder.recorded == before


# ---- leaving


async def ask_and_leave(part: Part, engine: Engine, stream: bool, leaver: str) -> None:
    """Ask for 3,900 tokens, close the connection while the engine works on them, and wait until nothing is under way."""
    body = {
        "model": "assistant", "messages": HI, "max_tokens": 3900, "stream": stream, "min_tokens": 3900,
    }  # fmt: skip
    headers = {"X-Trimtab-Conversation": f"conv-{leaver}", "X-Trimtab-User": leaver}
    host, port, request = raw_client.post(part.url + CHAT, body, {"Authorization": f"Bearer {KEY}"} | headers)
    reader, writer = await asyncio.open_connection(
        host, port
    )  # httpx may close only when the answer has come
    writer.write(request)
    if stream:
        while not re.search(rb'"content":"[^"]', await reader.readline()):
            pass
    else:
        asking = asyncio.create_task(reader.read())
        await until_running(engine, asking)
    writer.transport.abort()
    deadline = time.monotonic() + 3
    while (await running_requests(engine) or engine.in_flight.outstanding) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_generation(part: Part, engine: Engine, stream: bool) -> None:
    for attempt in range(5):
        leaver = f"leaver-{stream}-{attempt}"
        await ask_and_leave(part, engine, stream, leaver)
        charged, _ = part.gateway.rate_limiter.counter.spent(f"user {leaver}")
        if charged.completion_tokens < 3900:
            break  # else the machine was so busy that the whole answer had come before the client could leave
    assert await running_requests(engine) == 0
    assert (engine.in_flight.outstanding, part.gateway.rate_limiter.outstanding) == (0, 0)
    if stream:
        await part.recorder.flush()
        kept = stored_conversations.get(part.db, f"conv-{leaver}")
        assert kept.messages[1].content, "what was said until then is kept"
    assert (charged.requests, charged.prompt_tokens) == ((1, 3) if stream else (0, 0))
    assert (0 < charged.completion_tokens < 3900) == stream


async def test_events_of_the_engine_are_at_most_its_tokens(engine: Engine) -> None:
    """A client that leaves is charged by the events that went out; vLLM joins tokens that wait to be sent."""
    body = {
        "model": BASE, "messages": HI, "n": 2, "max_tokens": 20, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    rewriter = StreamRewriter(BASE, BASE, drop_usage=False)
    answer = await engine.post(CHAT, json.dumps(body).encode())
    async for chunk in answer.chunks():
        rewriter.feed(chunk)
    engine.release(answer)
    reported = responses.usage(rewriter.usage_event or b"")
    assert reported is not None
    assert reported["completion_tokens"] == 40
    assert 2 <= token_estimate.of_stream(body, rewriter.events).completion_tokens <= 40


# ---- from within, and metrics


async def test_complete_answers_from_within(part: Part) -> None:
    from serve.auth import Principal

    rater = Principal("ada", frozenset({"rater"}), "session")
    done = await part.gateway.complete(rater, {"model": "assistant", "messages": HI}, sticky="x")
    assert done.target.release == "assistant@1"
    assert done.body["model"] == "assistant@1"
    assert done.body["choices"][0]["message"]["content"]


async def test_metrics_count_by_release(part: Part, oai: openai.AsyncOpenAI) -> None:
    await oai.chat.completions.create(model="assistant@1", messages=HI)
    text = part.metrics.render().decode()
    labels = 'deployment="assistant",lane="pinned",release="assistant@1"'
    assert re.search(r'trimtab_requests_total\{code="200",' + labels, text)
    assert re.search(r"trimtab_tokens_total\{" + labels.replace("lane", 'kind="completion",lane', 1), text)
    assert 'trimtab_engine_ready{base="tiny",engine="tiny-0"} 1.0' in text
    stream = await oai.chat.completions.create(model="assistant@1", messages=HI, stream=True, store=False)
    assert [chunk async for chunk in stream]
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        shown = (await http.get(part.url + "/metrics")).text
    assert 'trimtab_engine_queue{base="tiny",engine="tiny-0"} 0.0' in shown
    for series in ("time_to_first_token_seconds", "inter_token_latency_seconds", "request_seconds"):
        assert f"trimtab_{series}_count{{{labels}}}" in shown


def test_a_store_is_all_that_the_gateway_needs() -> None:
    """The platform process stays light: none of the heavy libraries is imported by serving."""
    import subprocess
    import sys

    code = (
        "import sys, serve.gateway.handler, serve.adapters.publishing, serve.adapters.reconciler, trimtab_client;"
        "sys.exit(bool({'torch', 'vllm', 'transformers', 'trl', 'peft'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
