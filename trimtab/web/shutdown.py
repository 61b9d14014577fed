"""How a request ends that is still open when the platform stops: with an error its client can read, and no traceback.

The server cancels what is open after `server.drain_s` and logs each cancelled request as an exception of the application.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import RequestError
from serve.gateway.responses import error_response
from serve.gateway.stream_rewriter import error_event

MESSAGE = "The platform is stopping."
CODE = "shutting_down"


class EndCancelledRequests:
    """ASGI wrapper that answers a cancelled request with 503, or ends its stream. Outermost, around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on."""
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            await _end(scope, receive, send)


async def _end(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        error = RequestError(
            MESSAGE, status=503, code=CODE, headers={"Retry-After": "30", "Connection": "close"}
        )
        await error_response(error)(scope, receive, send)
    except RuntimeError:  # the answer has begun; the server takes no second head
        rest = b"\n\n" + error_event(MESSAGE, CODE, 503) if scope["path"].startswith("/v1/") else b""
        with contextlib.suppress(RuntimeError):  # an answer of a declared length can only be cut
            await send({"type": "http.response.body", "body": rest})
