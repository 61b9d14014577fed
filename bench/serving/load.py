"""A load generator for chat endpoints: a fixed number of requests at once, times measured at the socket.

    python -m bench.serving.load URL MODEL --streams 64 --seconds 5 [--stream] [--key K] [--max-tokens 16]

Prints one line of JSON: requests a second, tokens a second, milliseconds to the first byte of content (plain: to the
whole answer) at p50 and p99, failures. A bare asyncio protocol on uvloop: it shares the machine with what it measures.
Where one per cent counts, `bench.serving.waves`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Protocol
from urllib.parse import urlsplit

import httptools
import uvloop


class Notes(Protocol):
    """Receiver of events about answers."""

    def first(self, sent: float) -> None:
        """Note the first piece of an answer to a request sent at `sent`."""

    def pieces(self, count: int) -> None:
        """Note pieces of a stream."""


class Asker(asyncio.Protocol):
    """One connection that sends the same request on demand and reports events to `notes`."""

    transport: asyncio.WriteTransport
    notes: Notes

    def __init__(self, request: bytes) -> None:
        self.request = request

    def send(self) -> None:
        """Send the request and start its clock."""
        self.parser = httptools.HttpResponseParser(self)
        self.begun = False
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Note the first piece, and count the pieces of a stream."""
        if self.parser.get_status_code() != 200:
            return
        if not self.begun:
            self.begun = True
            self.notes.first(self.sent)
        self.notes.pieces(body.count(b'"delta":{"content":"') or body.count(b'"content":'))


class Client(Asker):
    """One connection that sends its request again as soon as the answer is whole."""

    notes: Results

    def __init__(self, request: bytes, results: Results) -> None:
        super().__init__(request)
        self.notes = results

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = transport  # type: ignore[assignment]
        self.send()

    def on_message_complete(self) -> None:
        """Note the answer and send the next request."""
        self.notes.add(self.parser.get_status_code())
        if self.parser.should_keep_alive() and not self.notes.over:
            asyncio.get_running_loop().call_soon(self.send)
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Count a connection that ended in the middle; open another."""
        self.notes.lost(self)


class Results:
    """Events of all connections within `seconds`, without the first half second."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begin = time.perf_counter() + 0.5
        self.end = self.begin + seconds
        self.first_ms: list[float] = []
        self.tokens = self.done = self.failed = 0
        self.reconnect: list[Client] = []

    @property
    def over(self) -> bool:
        """Return whether the time is up."""
        return time.perf_counter() > self.end

    @property
    def counting(self) -> bool:
        """Return whether an event at this time counts, whenever its request was sent."""
        return self.begin < time.perf_counter() < self.end

    def first(self, sent: float) -> None:
        """Note the first piece of an answer to a request sent at `sent`."""
        if self.counting and sent > self.begin:
            self.first_ms.append((time.perf_counter() - sent) * 1000)

    def pieces(self, count: int) -> None:
        """Note pieces of a stream."""
        if self.counting:
            self.tokens += count

    def add(self, status: int) -> None:
        """Note an answer."""
        if status != 200:
            self.failed += 1
        elif self.counting:
            self.done += 1

    def lost(self, client: Client) -> None:
        """Note a lost connection."""
        self.reconnect.append(client)


def request_bytes(url: str, model: str, stream: bool, key: str, max_tokens: int) -> tuple[str, int, bytes]:
    """Return host, port and the bytes of the request."""
    parts = urlsplit(url)
    body = json.dumps({
        "model": model, "stream": stream, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True,
        "store": False, "messages": [{"role": "user", "content": "Say sixteen words about the sea."}],
    }).encode()  # fmt: skip
    head = (
        f"POST {parts.path}/v1/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return parts.hostname or "127.0.0.1", parts.port or 80, head.encode() + body


async def run(
    url: str,
    model: str,
    streams: int,
    seconds: float,
    stream: bool,
    key: str,
    max_tokens: int,
) -> dict[str, float]:
    """Load `url` and return the measurements."""
    host, port, request = request_bytes(url, model, stream, key, max_tokens)
    results = Results(seconds)
    loop = asyncio.get_running_loop()

    async def connect() -> None:
        await loop.create_connection(lambda: Client(request, results), host, port)

    await asyncio.gather(*(connect() for _ in range(streams)))
    while not results.over:
        await asyncio.sleep(0.05)
        while results.reconnect and not results.over:
            results.reconnect.pop()
            try:
                await connect()
            except OSError:
                results.failed += 1
    if not results.first_ms:
        raise SystemExit(f"no answer of {url} began within {results.seconds:g} s; give it more")
    times = sorted(results.first_ms)
    return {
        "requests_per_s": round(results.done / results.seconds, 1),
        "tokens_per_s": round(results.tokens / results.seconds, 1),
        "p50_ms": round(times[len(times) // 2], 2),
        "p99_ms": round(times[min(len(times) - 1, int(len(times) * 0.99))], 2),
        "failed": results.failed,
        "done": results.done,
    }


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--key", default="none")
    parser.add_argument("--max-tokens", type=int, default=16)
    args = parser.parse_args()
    seen = uvloop.run(
        run(
            args.url,
            args.model,
            args.streams,
            args.seconds,
            args.stream,
            args.key,
            args.max_tokens,
        )
    )
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
