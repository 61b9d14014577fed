"""How long a streamed answer was thought about, read from the times of its pieces after its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve.gateway.exchange import Answer, Exchange, Recording
from serve.gateway.protocols.chat import Chat
from serve.router import Target

TARGET = Target("assistant", "assistant", "assistant@1", "rel-1", "base", lane="stable")
CALL = {"index": 0, "id": "c", "function": {"name": "weather", "arguments": "{}"}}


def thought(*pieces: dict[str, Any] | list[dict[str, Any]], stream: bool = True) -> float | None:
    """Return the time of an answer whose pieces went out at 100 s, 101 s, 102 s, each with one delta or several."""
    chunks = [
        b"".join(
            b"data: " + json.dumps({"id": "c", "choices": [{"delta": delta}]}).encode() + b"\n\n"
            for delta in (piece if isinstance(piece, list) else [piece])
        )
        for piece in pieces
    ]
    asked = [{"role": "user", "content": "Rain?"}]
    request = Recording("conv", asked, stream, "assistant", "assistant", None, None, Chat())
    times = [100.0 + place for place in range(len(chunks))]
    turn = Exchange(request, Answer(200, TARGET, chunks=chunks, times=times)).turn()
    assert turn is not None
    return turn.thought_s


THINKS, SAYS = {"reasoning": "Look."}, {"content": "Rain."}


@pytest.mark.parametrize(
    ("pieces", "seconds"),
    [
        ([{"role": "assistant", "content": ""}, THINKS, THINKS, SAYS, SAYS], 3),
        ([THINKS, [THINKS, {"tool_calls": [CALL]}], SAYS], 1),
        ([THINKS, THINKS], 1),  # it ended in its thinking
        ([[THINKS, SAYS]], 0),
        ([SAYS, SAYS], None),
    ],
)
def test_thinking_lasts_until_the_first_text_or_call(pieces: list[Any], seconds: float | None) -> None:
    assert thought(*pieces) == seconds


def test_an_answer_in_one_piece_has_no_time_of_thinking() -> None:
    message = {"message": {"content": "Rain.", "reasoning_content": "Look."}}
    request = Recording(
        "conv", [{"role": "user", "content": "?"}], False, "assistant", None, None, None, Chat()
    )
    body = json.dumps({"id": "c", "choices": [message]}).encode()
    turn = Exchange(request, Answer(200, TARGET, chunks=(body,))).turn()
    assert turn is not None
    assert turn.thought_s is None
