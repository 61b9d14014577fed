"""General HTTP clients behind the interface of `serve.engine.stream_client.HttpStream`, to be measured against it.

    python -m bench.gateway --clients

Each keeps its connections, without a limit on their number, and passes the body on in the pieces in which it came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx


class AiohttpAnswer:
    """An answer of aiohttp as `Connection` shows it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response, self.status = response, response.status

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        async for piece in self.response.content.iter_any():
            yield piece


class AiohttpStream:
    """aiohttp's client session."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"content-type": "application/json", **headers},
        )

    async def post(self, path: str, body: bytes) -> AiohttpAnswer:
        """Send a POST and return the answer once its status is known."""
        return AiohttpAnswer(await self._session.post(self._url + path, data=body))

    def release(self, answer: AiohttpAnswer) -> None:
        """Keep the connection if the answer was read completely, else close it."""
        answer.response.release()

    def close(self) -> None:
        """Do nothing: connections close with the process."""


class HttpxAnswer:
    """An answer of httpx as `Connection` shows it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response, self.status = response, response.status_code

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, then release the connection."""
        try:
            async for piece in self.response.aiter_raw():
                yield piece
        finally:
            await self.response.aclose()


class HttpxStream:
    """httpx's asynchronous client."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=3)
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"content-type": "application/json", **headers},
            limits=limits,
            timeout=None,
            trust_env=False,
        )

    async def post(self, path: str, body: bytes) -> HttpxAnswer:
        """Send a POST and return the answer once its status is known."""
        request = self._http.build_request("POST", path, content=body)
        return HttpxAnswer(await self._http.send(request, stream=True))

    def release(self, answer: HttpxAnswer) -> None:
        """Do nothing: `chunks` releases the connection."""

    def close(self) -> None:
        """Do nothing: connections close with the process."""


CLIENTS: dict[str, Any] = {"aiohttp": AiohttpStream, "httpx": HttpxStream}
