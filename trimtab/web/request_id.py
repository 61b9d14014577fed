"""An id for each request: sent back as `X-Request-Id`, and in every log line that the request causes."""

from __future__ import annotations

import logging
import re
import secrets
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
_OWN = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def current() -> str:
    """Return the id of the request that is being answered; empty outside one."""
    return _current.get()


class RequestIds:
    """ASGI middleware, the outermost: a client's own id is kept where it is short and plain, else one is made."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request under its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ident = _given(scope) or f"req-{secrets.token_hex(12)}".encode()
        token = _current.set(ident.decode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != HEADER]
                message = {**message, "headers": [*headers, (HEADER, ident)]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            _current.reset(token)


def _given(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == HEADER:
            return bytes(value) if _OWN.fullmatch(value) else None
    return None


class NameRequest(logging.Filter):
    """Logging filter: each record has the current id as `request_id`, and as `request` in brackets."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id; keep the record."""
        ident = current()
        record.request_id = ident or None
        record.request = f" [{ident}]" if ident else ""
        return True
