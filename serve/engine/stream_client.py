"""The client that carries chat requests to an engine: HTTP/1.1, one POST at a time on a kept connection.

General clients (aiohttp, httpx) spend more time on a request than the rest of the gateway together; see
docs/benchmarks.md. This one does what the gateway needs and no more: JSON out, bytes in as they come, back-pressure,
and an abort that closes the connection, which is how an engine learns that nobody listens. httptools parses. Control
requests go through aiohttp.

Not covered: redirects, compression, proxies, pipelining, HTTP/2.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import cast
from urllib.parse import urlsplit

import httptools

HIGH_WATER = 2**18  # bytes held for a slow reader before the engine is made to wait
IDLE_S = 3.0  # vLLM closes a connection that was idle for five seconds


class StreamBroken(Exception):
    """The connection could not be made, or ended before the answer did."""


class Connection(asyncio.Protocol):
    """One connection and the answer that it is receiving."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self.idle_since = 0.0
        self._begin()

    def _begin(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.complete = False
        self.keep = False
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    # ---- asyncio and httptools call these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        """Wake the reader, who sees an answer that is not complete."""
        self.lost = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Parse; nonsense ends the connection."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
        self._wake()

    def on_headers_complete(self) -> None:
        """Note the status."""
        self.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """Hold a piece for the reader."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held > HIGH_WATER and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        """Note the end."""
        self.complete = True
        self.keep = self.parser.should_keep_alive()

    # ---- the reader calls these

    async def send(self, request: bytes) -> None:
        """Send a request and wait for the head of its answer."""
        self._begin()
        if self.transport is None or self.lost:
            raise StreamBroken("the connection is closed")
        self.transport.write(request)
        while not self.status:
            await self._more()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, pieces that came together in one; raises `StreamBroken` if it ends early."""
        while True:
            if self._pieces:
                data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces.clear()
                self._held = 0
                if self._paused and self.transport is not None and not self.lost:
                    self._paused = False
                    self.transport.resume_reading()
                yield data
            elif self.complete:
                return
            else:
                await self._more()

    def abort(self) -> None:
        """Close at once."""
        self.lost = True
        if self.transport is not None:
            self.transport.abort()

    async def _more(self) -> None:
        if self.lost:
            raise StreamBroken("the connection ended before the answer did")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class HttpStream:
    """Connections to one engine at `url`; `headers` go with every request. Belongs to one event loop."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        lines = {"host": parts.netloc, "content-type": "application/json", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._idle: list[Connection] = []

    async def post(self, path: str, body: bytes) -> Connection:
        """Send a POST and return the connection once the status is known; give it back with `release`.

        Raises `StreamBroken`. A kept connection that the engine had closed meanwhile is replaced by a new one.
        """
        head = f"POST {self._prefix}{path} HTTP/1.1\r\n{self._head}content-length: {len(body)}\r\n\r\n"
        request = head.encode() + body
        while (connection := self._take()) is not None:
            try:
                await connection.send(request)
                return connection
            except StreamBroken:
                continue
            except BaseException:
                connection.abort()
                raise
        loop = asyncio.get_running_loop()
        try:
            _, fresh = await asyncio.wait_for(
                loop.create_connection(Connection, self._host, self._port, ssl=self._tls), 5
            )
        except (OSError, TimeoutError) as error:
            raise StreamBroken(f"no connection: {error}") from error
        try:
            await fresh.send(request)
        except BaseException:
            fresh.abort()
            raise
        return fresh

    def release(self, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end, close any other (which aborts the generation)."""
        if connection.complete and connection.keep and not connection.lost:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Close the kept connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost and time.monotonic() - connection.idle_since < IDLE_S:
                return connection
            connection.abort()
        return None
