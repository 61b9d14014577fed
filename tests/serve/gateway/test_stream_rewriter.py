"""Bytes through: whatever the network's cuts, the same events come out."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.gateway import responses
from serve.gateway.protocols.responses import OpenAIResponses
from serve.gateway.stream_rewriter import StreamRewriter, error_event
from trimtab_client.sse import events

NAME = "a-0123456789abcdef"


def event(text: str, **more: object) -> bytes:
    chunk = {"id": "c", "model": NAME, "choices": [{"index": 0, "delta": {"content": text}}], **more}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


USAGE = b'data: {"id":"c","model":"%s","choices":[],"usage":{"total_tokens":7}}\n\n' % NAME.encode()
DONE = b"data: [DONE]\n\n"
# The third text is a quotation of the very bytes that are replaced: it must come out as it went in.
STREAM = event("Hel") + event("lo\n\n") + event(f'"model":"{NAME}"') + USAGE + DONE


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % len(data) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.integers(0, 10_000), max_size=12), st.booleans())
def test_any_cut_gives_the_same_stream(cuts: list[int], drop: bool) -> None:
    rewriter = StreamRewriter(NAME, "assistant@3", drop)
    out = b"".join(rewriter.feed(piece) for piece in pieces(STREAM, cuts)) + rewriter.finish()
    expected = STREAM.replace(USAGE, b"") if drop else STREAM
    public = expected.replace(f'"model":"{NAME}"'.encode(), b'"model":"assistant@3"')
    assert out == public
    assert b'\\"model\\":\\"' + NAME.encode() in out
    assert rewriter.usage_event == USAGE.removesuffix(b"\n\n")
    assert rewriter.events == 3


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_only_whole_events_go_out(cuts: list[int]) -> None:
    rewriter = StreamRewriter(NAME, "assistant@3", True)
    for piece in pieces(STREAM, cuts):
        out = rewriter.feed(piece)
        assert not out or out.endswith(b"\n\n")


def test_broken_stream_returns_the_part_received() -> None:
    rewriter = StreamRewriter(NAME, "m@1", True)
    assert rewriter.feed(event("Hi")[:-1]) == b""
    assert rewriter.finish().startswith(b"data: {")
    assert rewriter.finish() == b""


def test_the_error_event_is_one_event() -> None:
    assert error_event("gone\n", "x", 502).count(b"\n\n") == 1


async def _collect(lines: list[str]) -> list[tuple[str, str]]:
    async def source():  # type: ignore[no-untyped-def]
        for line in lines:
            yield line

    return [(e.event, e.data) async for e in events(source())]


def test_events_are_read_by_the_book() -> None:
    import asyncio

    lines = [": comment", "event: state", "data: a", "data:b", "", "data: c", "", "", "data: tail"]
    assert asyncio.run(_collect(lines)) == [("state", "a\nb"), ("message", "c"), ("message", "tail")]


@pytest.mark.parametrize("end", ["response.completed", "response.incomplete", "response.failed"])
def test_usage_of_a_response_is_found_however_it_ended(end: str) -> None:
    rewriter = StreamRewriter(NAME, "m@1", False, OpenAIResponses.marks)
    rewriter.feed(b'event: response.created\ndata: {"type":"response.created","response":{"usage":null}}\n\n')
    assert not rewriter.has_begun
    event = f'event: {end}\ndata: {{"type":"{end}","response":{{"usage":{{"input_tokens":3,"output_tokens":2}}}}}}\n\n'
    rewriter.feed(event.encode())
    assert responses.usage(rewriter.usage_event or b"") == {"input_tokens": 3, "output_tokens": 2}
