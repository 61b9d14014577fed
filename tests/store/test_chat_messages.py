"""What is kept of a message is the text that a model reads of it."""

from __future__ import annotations

from typing import Any

import pytest

from store.errors import Invalid
from store.values import Message
from trimtab.api.conversations.models import MessageBody


@pytest.mark.parametrize("read", [Message.from_json, MessageBody.model_validate])
@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            "a\nb",
        ),
        ({"role": "user", "content": ["a", {"text": "b"}]}, "a\nb"),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"role": "assistant", "content": None}, ""),
        ({"role": "developer", "content": "Be brief."}, "Be brief."),
    ],
)
def test_a_message_is_one_text(read: Any, message: dict[str, Any], text: str) -> None:
    assert read(message).content == text


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "user", "content": None}, "message.content"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "message.content[0]"),
        ({"role": "assistant", "content": "x", "tool_calls": [{"id": "c"}]}, "message.tool_calls"),
    ],
)
def test_part_of_a_message_that_cannot_be_kept_is_rejected_by_name(
    message: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid, match="accepted") as caught:
        Message.from_json(message)
    assert caught.value.field == field


def test_only_an_answer_may_be_empty() -> None:
    with pytest.raises(ValueError, match="at least 1 character"):
        MessageBody.model_validate({"role": "user", "content": ""})
    assert MessageBody.model_validate({"role": "assistant", "content": ""}).content == ""
