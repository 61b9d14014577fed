"""Streams of `/v1/responses` and `/v1/messages` whose engine ends, before its first token or after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import openai
import pytest

from tests.serve.gateway_harness import Part, stub_replicas

pytestmark = pytest.mark.anyio


@pytest.fixture
async def part(tmp_path: Path) -> AsyncIterator[Part]:
    """The gateway over two stub engines of which the first, asked first, ends after its stream's first event."""
    async with stub_replicas(tmp_path, 2) as (part, apps):
        apps[0].state.fault = "silence"
        yield part


async def test_a_replica_answers_when_the_engine_ends_before_a_token(
    gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    stream = await gpt.responses.create(model="assistant", input="say 3", stream=True)
    events = [event async for event in stream]
    assert [event.type for event in events].count("response.created") == 1
    assert [event.type for event in events].count("response.output_text.delta") == 3
    asked = await claude.messages.create(
        model="assistant", messages=[{"role": "user", "content": "say 3"}], max_tokens=9, stream=True
    )
    kinds = [event.type async for event in asked]
    assert (kinds.count("message_start"), kinds.count("content_block_delta")) == (1, 3)


async def test_no_replica_left_is_a_503_in_the_clients_form(
    gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(openai.InternalServerError) as first:
        await gpt.responses.create(model="assistant", input="prelude", stream=True)
    assert (first.value.status_code, first.value.code) == (503, "engine_unavailable")
    with pytest.raises(anthropic.APIStatusError) as second:
        await claude.messages.create(
            model="assistant", messages=[{"role": "user", "content": "prelude"}], max_tokens=9, stream=True
        )
    assert second.value.status_code == 503
    assert second.value.body == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": second.value.body["error"]["message"]},  # type: ignore[index, call-overload]
    }
    assert "retry-after" in second.value.response.headers


async def test_a_stream_that_breaks_ends_with_an_error_event_and_is_paid_for(
    part: Part, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    events = [e async for e in await gpt.responses.create(model="assistant", input="break 3", stream=True)]
    assert [event.type for event in events].count("response.output_text.delta") == 3
    assert events[-1].type == "error"
    assert "stopped in the middle" in events[-1].message
    asked = await claude.messages.create(
        model="assistant", messages=[{"role": "user", "content": "break 3"}], max_tokens=9, stream=True
    )
    kinds = []

    async def read() -> None:
        async for event in asked:
            kinds.append(event.type)

    with pytest.raises(anthropic.APIStatusError, match="stopped in the middle"):
        await read()
    assert kinds.count("content_block_delta") == 3
    counter = part.gateway.rate_limiter.counter
    assert sum(counter.spent(name)[0].completion_tokens for name in ("operator", "local key")) == 6
