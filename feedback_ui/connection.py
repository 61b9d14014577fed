"""Clients that speak for the person at the browser.

The UI holds no rights of its own: it passes on the cookie and the key that came with the event, so that roles are
decided in one place, the platform's API.
"""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr
import httpx

from trimtab_client import AsyncClient

_FORWARDED = ("cookie", "authorization")


class _Shared(httpx.AsyncBaseTransport):
    """One connection pool under many short-lived clients: closing a client leaves it open.

    A new pool (and TLS context) for each event would cost more than the request it carries.
    """

    def __init__(self) -> None:
        self._pool = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._pool.handle_async_request(request)

    async def aclose(self) -> None:
        return None


class Connection:
    """Makes a `AsyncClient` for each event.

    `base_url` is the platform's own address, or a function that returns it where the port is only known after the
    platform listens. Use it within one event loop.
    """

    def __init__(self, base_url: str | Callable[[], str]) -> None:
        self._base_url = base_url
        self._transport: _Shared | None = None

    def client(self, request: gr.Request | None) -> AsyncClient:
        """Return a client that carries the caller's cookie and key; use it as an async context manager."""
        if self._transport is None:
            self._transport = _Shared()
        url = self._base_url() if callable(self._base_url) else self._base_url
        return AsyncClient(url, headers=forwarded(request), transport=self._transport)


def forwarded(request: gr.Request | None) -> dict[str, str]:
    """Pick the headers of a browser's request that say who asks."""
    if request is None or getattr(request, "request", None) is None:
        return {}
    return {name: value for name in _FORWARDED if (value := request.headers.get(name))}
