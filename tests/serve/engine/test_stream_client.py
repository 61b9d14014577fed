"""The client that carries requests, against a real server on a socket that behaves as told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from serve.engine.stream_client import HIGH_WATER, HttpStream, StreamBroken

pytestmark = pytest.mark.anyio
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[HttpStream]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    listening = await asyncio.start_server(guarded, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    client = HttpStream(f"http://127.0.0.1:{port}/prefix", {"x-a": "1"})
    try:
        yield client
    finally:
        client.close()
        listening.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length"))
    return head, await reader.readexactly(length)


async def collect(client: HttpStream, body: bytes = b"{}") -> bytes:
    connection = await client.post("/p", body)
    try:
        return b"".join([chunk async for chunk in connection.chunks()])
    finally:
        client.release(connection)


async def test_a_connection_is_kept_and_the_request_is_whole() -> None:
    connections = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while True:
            head, body = await read_request(reader)
            assert head.startswith("POST /prefix/p HTTP/1.1\r\nhost: 127.0.0.1:")
            assert "x-a: 1\r\n" in head
            assert body == b"{}"
            writer.write(WHOLE)

    async with server(handler) as client:
        for _ in range(5):
            assert await collect(client) == b"ok"
        assert len(connections) == 1


async def test_idle_connection_closed_by_the_server_is_replaced() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(WHOLE)  # promises to keep the connection, and closes it

    async with server(handler) as client:
        for _ in range(3):
            assert await collect(client) == b"ok"


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200", HEAD, HEAD + b"5\r\nhello\r\n", b"nonsense\r\n\r\n", HEAD + b"zz\r\n"]
)
async def test_an_answer_that_ends_early_is_broken(answer: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with server(handler) as client:
        with pytest.raises(StreamBroken):
            await collect(client)


async def test_refused_connection_is_a_broken_stream() -> None:
    client = HttpStream("http://127.0.0.1:1", {})
    with pytest.raises(StreamBroken, match="no connection"):
        await client.post("/p", b"{}")


async def test_leaving_early_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + b"5\r\nhello\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        closed.set()

    async with server(handler) as client:
        connection = await client.post("/p", b"{}")
        assert connection.status == 200
        async for chunk in connection.chunks():
            assert chunk == b"hello"
            break
        client.release(connection)
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_reader_that_waits_makes_the_sender_wait() -> None:
    sent = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(HEAD)
        piece = b"x" * 65536
        for _ in range(400):
            writer.write(b"10000\r\n" + piece + b"\r\n")
            await writer.drain()
            sent += len(piece)
        writer.write(b"0\r\n\r\n")

    async with server(handler) as client:
        connection = await client.post("/p", b"{}")
        await asyncio.sleep(0.5)
        assert connection._held < HIGH_WATER + 2**20
        assert sent < 400 * 65536, "the sender is held up"
        total = sum([len(chunk) async for chunk in connection.chunks()])
        client.release(connection)
        assert total == 400 * 65536
