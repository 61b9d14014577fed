"""What a client may send, and what the engine gets of it."""

from __future__ import annotations

from typing import Any

import pytest

from serve.errors import RequestError
from serve.gateway.requests import check_chat, check_completion, for_engine, model_of, parse, to_bytes
from serve.metering.limits import Limits
from serve.router import Target
from store.values import conversation, to_json

HI = [{"role": "user", "content": "hi"}]
TARGET = Target(
    "assistant", "assistant", "assistant@3", "rel-1", "tiny", "a-0123456789abcdef",
    system_prompt="Be brief.", sampling={"temperature": 0.2, "max_tokens": 50}, lane="stable",
)  # fmt: skip


@pytest.mark.parametrize(
    ("body", "field", "why"),
    [
        ({"messages": "hi"}, "messages", "must be a list"),
        ({"messages": []}, "messages", "at least one"),
        ({}, "messages", "must be a list"),
        ({"messages": ["hi"]}, "messages[0]", "must be an object"),
        (
            {"messages": [*HI, {"role": "robot", "content": ""}]},
            "messages[1].role",
            "'robot'; accepted: system",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "must be text or a list"),
        ({"messages": [{"role": "user", "content": [1]}]}, "messages[0].content[0]", "an object with a type"),
        ({"messages": HI * 6}, "messages", "holds 6 messages; accepted: up to 5"),
        ({"messages": HI, "max_tokens": -1}, "max_tokens", "a whole number, 0 or more"),
        ({"messages": HI, "max_tokens": True}, "max_tokens", "a whole number"),
        ({"messages": HI, "max_tokens": 101}, "max_tokens", "accepted: up to 100"),
        ({"messages": HI, "max_completion_tokens": 101}, "max_completion_tokens", "up to 100"),
        ({"messages": HI, "n": 17}, "n", "from 1 to 16"),
    ],
)
def test_each_fault_names_its_field(body: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(RequestError, match=why) as caught:
        check_chat(body, Limits(max_messages=5, max_tokens=100))
    assert caught.value.param == field
    assert caught.value.status == 400


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"7", b'{"a": NaN}', b"\xff"])
def test_body_that_is_no_object_is_rejected(raw: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse(raw)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("body", [{}, {"model": ""}, {"model": 3}, {"model": None}])
def test_the_model_is_required(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        model_of(body)
    assert caught.value.param == "model"


def test_tool_calls_and_parts_are_let_through() -> None:
    check_chat(
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                {"role": "tool", "content": "4", "tool_call_id": "1"},
            ]
        },
        Limits(),
    )


def test_the_release_fills_in_what_the_client_left_out() -> None:
    given = {"model": "assistant", "messages": HI, "temperature": 0.9, "store": True, "guided_x": 1}
    out, _ = for_engine(given, TARGET, Limits())
    assert out == {
        "model": "a-0123456789abcdef",
        "messages": [{"role": "system", "content": "Be brief."}, *HI],
        "temperature": 0.9,
        "max_tokens": 50,
        "guided_x": 1,
    }
    assert given["messages"] is HI
    assert "store" in given, "what the client sent stays as it is"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_message_of_the_client_is_kept(role: str) -> None:
    messages = [{"role": role, "content": "Mine."}, *HI]
    out, _ = for_engine({"messages": messages}, TARGET, Limits())
    assert out["messages"] == messages


def test_an_earlier_answer_may_have_null_content() -> None:
    messages = [*HI, {"role": "assistant", "content": None}, *HI]
    check_chat({"messages": messages}, Limits())
    out, _ = for_engine({"messages": messages}, Target("m", None, "m", None, "tiny"), Limits())
    assert out["messages"] == [*HI, {"role": "assistant", "content": ""}, *HI]


def test_text_parts_reach_the_engine_as_the_text_that_is_stored() -> None:
    parts = [{"type": "text", "text": "alpha"}, {"type": "text", "text": "beta"}]
    messages = [{"role": "user", "content": parts}]
    out, _ = for_engine({"messages": messages}, Target("m", None, "m", None, "tiny"), Limits())
    assert out["messages"] == [{"role": "user", "content": "alpha\nbeta"}]
    assert out["messages"] == to_json(conversation(messages))


def test_pictures_reach_the_engine_as_they_are() -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    out, _ = for_engine({"messages": [{"role": "user", "content": parts}]}, TARGET, Limits())
    assert out["messages"][1]["content"] == parts


def test_streams_always_report_usage() -> None:
    out, asked = for_engine({"messages": HI, "stream": True}, TARGET, Limits())
    assert (out["stream_options"], asked) == ({"include_usage": True}, False)
    options = {"include_usage": True, "x": 1}
    out, asked = for_engine({"messages": HI, "stream": True, "stream_options": options}, TARGET, Limits())
    assert (out["stream_options"], asked) == (options, True)


def test_completions_have_a_prompt_and_no_system_prompt() -> None:
    check_completion({"prompt": [1, 2]}, Limits())
    with pytest.raises(RequestError, match="prompt"):
        check_completion({"prompt": 3}, Limits())
    out, _ = for_engine({"prompt": "x"}, TARGET, Limits(max_tokens=9))
    assert out == {"prompt": "x", "model": "a-0123456789abcdef", "temperature": 0.2, "max_tokens": 50}


@pytest.mark.parametrize("value", [10**30, "\ud800"])
def test_value_without_a_json_form_is_a_client_error(value: object) -> None:
    with pytest.raises(RequestError, match="cannot be passed on") as caught:
        to_bytes({"model": "m", "seed": value})
    assert caught.value.status == 400
