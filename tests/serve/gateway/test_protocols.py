"""OpenAI's Responses API and Anthropic's Messages API, asked by their own clients over a real engine."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from store.conversations import stored_conversations
from store.rollout import deployments, releases
from tests.serve.conftest import BASE
from tests.serve.gateway.conftest import HI, post
from tests.serve.gateway_harness import Part

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

TURNS = [
    {"role": "user", "content": "Name a bird."},
    {"role": "assistant", "content": "A wren."},
    {"role": "user", "content": "Another one, please."},
]


@pytest.fixture(scope="module")
async def prompted(part: Part) -> str:
    """The name of a release with a system prompt."""
    deployments.ensure(part.db, "prompted", BASE, sampling={"temperature": 0, "max_tokens": 6})
    made = releases.create(
        part.db,
        "prompted",
        BASE,
        system_prompt="Answer like a sailor.",
        sampling={"temperature": 0, "max_tokens": 6},
    )
    await part.parts.reconciler.refresh()
    return f"prompted@{made.number}"


async def said_in_chat(
    part: Part, messages: list[dict[str, str]], model: str = "assistant"
) -> dict[str, Any]:
    answer: dict[str, Any] = (await post(part, {"model": model, "messages": messages})).json()
    return answer


async def test_responses_gives_the_same_answer_as_chat(part: Part, gpt: openai.AsyncOpenAI) -> None:
    chat = await said_in_chat(part, TURNS)
    whole = await gpt.responses.create(model="assistant", input=TURNS)  # type: ignore[arg-type]
    assert whole.output_text == chat["choices"][0]["message"]["content"]
    assert whole.model == "assistant@1"
    assert whole.usage is not None
    assert whole.usage.input_tokens == chat["usage"]["prompt_tokens"]
    events = [
        event async for event in await gpt.responses.create(model="assistant", input=TURNS, stream=True)
    ]  # type: ignore[arg-type]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == whole.output_text
    assert events[-1].response.model == "assistant@1"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text


async def test_messages_gives_the_same_answer_as_chat(part: Part, claude: anthropic.AsyncAnthropic) -> None:
    limited = {"model": "assistant", "messages": TURNS, "max_tokens": 5}
    chat = (await post(part, {**limited, "ignore_eos": False})).json()
    whole = await claude.messages.create(**limited)  # type: ignore[call-overload]
    assert whole.content[0].text == chat["choices"][0]["message"]["content"]
    assert (whole.model, whole.stop_reason) == ("assistant@1", "max_tokens")
    assert whole.usage.input_tokens == chat["usage"]["prompt_tokens"]
    async with claude.messages.stream(**limited) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == whole.content[0].text
    assert (final.model, final.usage.output_tokens) == ("assistant@1", 5)


async def test_the_release_says_the_same_system_prompt_at_every_door(
    part: Part, prompted: str, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    chat = await said_in_chat(part, HI, prompted)
    plain = await said_in_chat(part, HI)
    assert chat["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
    text = HI[0]["content"]
    response = await gpt.responses.create(model=prompted, input=text)
    message = await claude.messages.create(model=prompted, messages=HI, max_tokens=6)  # type: ignore[arg-type]
    assert response.usage is not None
    assert response.usage.input_tokens == message.usage.input_tokens == chat["usage"]["prompt_tokens"]
    assert response.instructions is None
    own = await said_in_chat(part, [{"role": "system", "content": "Be kind."}, *HI], prompted)
    response = await gpt.responses.create(model=prompted, input=text, instructions="Be kind.")
    message = await claude.messages.create(model=prompted, messages=HI, system="Be kind.", max_tokens=6)  # type: ignore[arg-type]
    assert response.usage is not None
    assert response.usage.input_tokens == message.usage.input_tokens == own["usage"]["prompt_tokens"]


async def test_both_are_recorded_as_conversations(
    part: Part, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    named = {"X-Trimtab-Conversation": "by-responses"}
    response = await gpt.responses.create(
        model="assistant", input="Hello there", instructions="Be kind.", extra_headers=named
    )
    streamed = {"X-Trimtab-Conversation": "by-messages"}
    async with claude.messages.stream(
        model="assistant",
        messages=HI,  # type: ignore[arg-type]
        system=[{"type": "text", "text": "Be kind."}],
        max_tokens=5,
        extra_headers=streamed,
    ) as stream:
        message = await stream.get_final_message()
    await part.parts.recorder.flush()
    for name, ident, text, finish in (
        ("by-responses", response.id, response.output_text, "length"),
        ("by-messages", message.id, message.content[0].text, "length"),  # type: ignore[union-attr]
    ):
        kept = stored_conversations.get(part.db, name)
        assert [m.role for m in kept.messages] == ["system", "user", "assistant"]
        assert [m.content for m in kept.messages][:2] == ["Be kind.", "Hello there"]
        answer = kept.messages[-1]
        assert (answer.content, answer.completion_id) == (text, ident)
        row = part.db.read().execute("select finish_reason from completions where id = $1", [ident])
        assert row.fetchall() == [(finish,)]


async def test_store_false_keeps_nothing(part: Part, gpt: openai.AsyncOpenAI) -> None:
    named = {"X-Trimtab-Conversation": "not-kept"}
    await gpt.responses.create(model="assistant", input="Hello", store=False, extra_headers=named)
    await part.parts.recorder.flush()
    kept = part.db.read().execute("select id from conversations where id = 'not-kept'").fetchall()
    assert kept == []


async def test_errors_have_the_form_of_the_client(
    part: Part, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(openai.NotFoundError, match="assistant"):
        await gpt.responses.create(model="nobody", input="Hello")
    with pytest.raises(anthropic.NotFoundError, match="assistant"):
        await claude.messages.create(model="nobody", messages=HI, max_tokens=5)  # type: ignore[arg-type]
    for field, value in (("previous_response_id", "resp_1"), ("background", True)):
        with pytest.raises(openai.BadRequestError) as refused:
            await gpt.responses.create(model="assistant", input="Hello", extra_body={field: value})
        assert refused.value.param == field


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/responses", {"input": []}, "input"),
        ("/v1/responses", {"input": [{"role": "nobody", "content": "a"}]}, "input[0].role"),
        ("/v1/responses", {"messages": HI}, "messages"),
        ("/v1/responses", {"input": "a", "max_output_tokens": "9"}, "max_output_tokens"),
        ("/v1/responses", {"input": "a", "instructions": 3}, "instructions"),
        ("/v1/messages", {"messages": HI}, "max_tokens"),
        ("/v1/messages", {"messages": [], "max_tokens": 5}, "messages"),
        (
            "/v1/messages",
            {"messages": [{"role": "tool", "content": "a"}], "max_tokens": 5},
            "messages[0].role",
        ),
        ("/v1/messages", {"messages": HI, "max_tokens": 5, "system": 3}, "system"),
        ("/v1/messages", {"messages": HI, "max_tokens": 5, "metadata": "x"}, "metadata"),
    ],
)
async def test_a_refusal_names_the_field(part: Part, path: str, body: dict[str, Any], field: str) -> None:
    answer = await post(part, {"model": "assistant", **body}, path)
    assert answer.status_code == 400
    assert f"`{field}`" in answer.json()["error"]["message"]


async def test_a_release_limits_answers_that_set_no_limit(part: Part, gpt: openai.AsyncOpenAI) -> None:
    response = await gpt.responses.create(model="assistant", input="Hello")
    assert response.usage is not None
    assert response.usage.output_tokens == 8
    assert (response.status, response.max_output_tokens) == ("incomplete", 8)
