"""Compressed request bodies: `Content-Encoding: gzip` or `deflate`, up to a limit of what they unfold to."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import RequestError

WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's `wbits` of each encoding that is read."""
ACCEPTED = ("gzip", "deflate", "identity")


def decompress(data: bytes, encoding: str, limit: int) -> bytes:
    """Undo a `Content-Encoding`.

    Raises `RequestError`: 415 for an encoding that is not read, 413 for more than `limit` bytes, 400 for a damaged body.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return data
    if encoding not in WINDOWS:
        raise RequestError(
            f"The header Content-Encoding is {encoding[:50]!r}; accepted: {', '.join(ACCEPTED)}.",
            "Content-Encoding",
            status=415,
            code="unsupported_content_encoding",
            accepted=ACCEPTED,
            headers={"Accept-Encoding": ", ".join(ACCEPTED)},
        )
    parts: list[bytes] = []
    room = limit + 1
    while data:  # gzip members may follow each other
        stream = zlib.decompressobj(WINDOWS[encoding])
        try:
            parts.append(stream.decompress(data, room))
        except zlib.error as error:
            raise _damaged(encoding, str(error)) from error
        room -= len(parts[-1])
        if room <= 0:
            raise too_large(limit)
        if not stream.eof:
            raise _damaged(encoding, "it ends too early")
        data = stream.unused_data
    return b"".join(parts)


def too_large(limit: int) -> RequestError:
    """Return the error of a body above the limit."""
    return RequestError(
        f"The body is larger than {limit} bytes, the most that is accepted.",
        status=413,
        code="body_too_large",
    )


def _damaged(encoding: str, why: str) -> RequestError:
    return RequestError(f"The body is not {encoding}: {why}.", "Content-Encoding", code="invalid_encoding")


class CompressedBodies:
    """ASGI middleware: paths under `prefix` but those under `but` get compressed bodies as they were before.

    `refuse` answers with a `RequestError`. The whole body is held in memory, up to `limit` bytes unfolded.
    """

    def __init__(
        self,
        app: ASGIApp,
        prefix: str,
        but: str,
        limit: int,
        refuse: Callable[[RequestError, Scope, Receive, Send], Awaitable[None]],
    ) -> None:
        self._app, self._prefix, self._but = app, prefix, but
        self._limit, self._refuse = limit, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body unfolded."""
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        encoding = Headers(scope=scope).get("content-encoding")
        if encoding is None or scope["path"].startswith(self._but):
            await self._app(scope, receive, send)
            return
        try:
            body = decompress(await self._read(receive), encoding, self._limit)
        except RequestError as error:
            await self._refuse(error, scope, receive, send)
            return
        scope = {**scope, "headers": list(scope["headers"])}
        headers = MutableHeaders(scope=scope)
        del headers["content-encoding"]
        headers["content-length"] = str(len(body))
        given = False

        async def replayed() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replayed, send)

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while size <= self._limit:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return b"".join(parts)
        raise too_large(self._limit)
