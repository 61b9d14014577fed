"""Guesses of tokens, with arithmetic that can be done by hand: four bytes a token."""

from __future__ import annotations

from typing import Any

import pytest

from serve.metering import token_estimate
from serve.metering.usage_counter import Used


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": [{"role": "user", "content": "12345678"}]}, 2),
        ({"messages": [{"role": "user", "content": "123456789"}]}, 3),
        ({"messages": [{"role": "user", "content": "1234"}, {"role": "assistant", "content": "5678"}]}, 2),
        ({"messages": [{"role": "user", "content": "日本語と"}]}, 3),  # twelve bytes
        ({"messages": [{"role": "user", "content": "half \ud800 a pair"}]}, 4),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}, 0),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "1234"},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                            "5678",
                        ],
                    }
                ]
            },
            2,
        ),
        ({"prompt": "12345678"}, 2),
        ({"prompt": ["1234", "5678"]}, 2),
        ({"prompt": [11, 12, 13]}, 3),
        ({"prompt": [[11, 12, 13], [14]]}, 4),
        ({"prompt_embeds": "AAAA"}, 0),
    ],
)
def test_prompts(body: dict[str, Any], tokens: int) -> None:
    assert token_estimate.prompt_tokens(body) == tokens


def test_a_stream_is_its_events_without_those_that_say_roles() -> None:
    chat = {"messages": [{"role": "user", "content": "1234"}]}
    assert token_estimate.of_stream(chat, 6) == Used(1, 5)
    assert token_estimate.of_stream(chat | {"n": 2}, 6) == Used(1, 4)
    assert token_estimate.of_stream(chat, 0) == Used(1, 0)
    assert token_estimate.of_stream({"prompt": "1234", "n": None}, 6) == Used(1, 6)


def test_an_answer_in_one_piece_is_its_bytes() -> None:
    assert token_estimate.of_whole({"prompt": "1234"}, b"x" * 41) == Used(1, 11)
