"""A stand-in engine for load tests: answers like vLLM's server, streams tokens at a fixed rate without computing.

    python -m bench.serving.stub_engine --port P [--rate TOKENS_PER_SECOND]

Written on a bare asyncio protocol so that it is not what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json

import httptools
import uvloop

MODEL = "stub"
PLAIN = {
    "id": "chatcmpl-stub", "object": "chat.completion", "created": 1, "model": MODEL,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 16}, "logprobs": None,
                 "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "total_tokens": 25, "completion_tokens": 16},
}  # fmt: skip
PROBE = {
    "id": "cmpl-stub", "object": "text_completion", "created": 1, "model": MODEL,
    "choices": [{"index": 0, "text": "x", "logprobs": {"token_logprobs": [-0.1]}, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 1, "total_tokens": 2, "completion_tokens": 1},
}  # fmt: skip
MODELS = {"object": "list", "data": [{"id": MODEL, "object": "model", "root": MODEL, "parent": None}]}


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    value = {
        "id": "chatcmpl-stub", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }  # fmt: skip
    return _frame(b"data: " + _dump(value) + b"\n\n")


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


FIRST = _chunk({"role": "assistant", "content": ""})
WORD = _chunk({"content": "word "})
LAST = _chunk({}, "stop")
USAGE = _frame(
    b'data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1,"model":"stub","choices":[],'
    b'"usage":{"prompt_tokens":9,"total_tokens":25,"completion_tokens":16}}\n\n'
)
DONE = _frame(b"data: [DONE]\n\n") + b"0\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _whole(value: object) -> bytes:
    data = _dump(value)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(data),
        data,
    )


ANSWERS = {b"/health": _whole({}), b"/v1/models": _whole(MODELS), b"/v1/completions": _whole(PROBE)}
CHAT = _whole(PLAIN)


class Stub(asyncio.Protocol):
    """One connection."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.loop = asyncio.get_running_loop()
        self.parser = httptools.HttpRequestParser(self)
        self.url, self.body = b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Start a request."""
        self.url, self.body = url, b""

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self.body += body

    def on_message_complete(self) -> None:
        """Answer."""
        if self.url in ANSWERS:
            self.transport.write(ANSWERS[self.url])
            return
        body = json.loads(self.body)
        if not body.get("stream"):
            self.transport.write(CHAT)
            return
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self.transport.write(STREAM_HEAD + FIRST)
        self.step(int(body.get("max_tokens") or 16), usage)

    def step(self, left: int, usage: bool) -> None:
        """Write one token and schedule the next."""
        if self.transport.is_closing():
            return
        if left:
            self.transport.write(WORD)
            self.loop.call_later(self.interval, self.step, left - 1, usage)
        else:
            self.transport.write(LAST + (USAGE if usage else b"") + DONE)


async def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, default=200.0, help="tokens a second of each stream")
    args = parser.parse_args()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(1 / args.rate), "127.0.0.1", args.port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
