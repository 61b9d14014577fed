"""Lets pages of other origins use the API with a key, where the settings name them (`server.cors_origins`)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.gateway.openai_paths import is_openai_path

SHOWN = [
    "x-trimtab-release",
    "x-trimtab-lane",
    "x-trimtab-conversation",
    "x-request-id",
    "retry-after",
    "link",
]


def is_cross_origin(headers: dict[bytes, bytes]) -> bool:
    """Return whether a page of another origin sent the request."""
    origin = headers.get(b"origin")
    if origin is None:
        return False
    return urlsplit(origin.decode("latin-1")).netloc.encode("latin-1") != headers.get(b"host", b"")


def key_only(scope: Scope) -> Scope:
    """Return the scope of a request that is known by its key: neither by a cookie nor by coming from this machine."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    return {**scope, "headers": headers, "client": None}


class CrossOrigin:
    """ASGI middleware: CORS for `/v1` and `/api`.

    A request from another origin is known by its key alone.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            self._keyed,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=SHOWN,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight request, or pass the request on."""
        path = scope.get("path", "")
        if scope["type"] == "http" and (is_openai_path(path) or path.startswith("/api/")):
            await self._cors(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _keyed(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_cross_origin(dict(scope["headers"])):
            scope = key_only(scope)
        await self._app(scope, receive, send)
