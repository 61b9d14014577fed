"""An engine's refusals in the gateway's words."""

from __future__ import annotations

import orjson
import pytest

from serve.gateway.upstream import refusal
from serve.router import Target

TARGET = Target("assistant", "assistant", "assistant@3", "rel-1", "tiny", "a-0123456789abcdef")


@pytest.mark.parametrize(
    "message",
    [
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        'tool_choice="required" requires --enable-auto-tool-choice to be set',
    ],
)
def test_refused_tool_choice_names_the_setting(message: str) -> None:
    raw = orjson.dumps({"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}})
    error = refusal(raw, 400, TARGET)
    assert (error.status, error.param) == (400, "tool_choice")
    assert "enable-auto-tool-choice = true" in error.message
    assert "[engines.NAME.args]" in error.message
    assert "tiny" in error.message


def test_refusal_has_the_public_name_of_the_model() -> None:
    raw = orjson.dumps(
        {"error": {"message": "a-0123456789abcdef does not see pictures", "param": "messages"}}
    )
    error = refusal(raw, 400, TARGET)
    assert (error.message, error.param) == ("assistant does not see pictures", "messages")
