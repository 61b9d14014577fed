"""HTTP/1.0 for uvicorn, which sends chunks to clients that do not know them: their bodies end with the connection.

A proxy with its defaults (nginx before 1.29.7) is such a client.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class _Cycle(RequestResponseCycle):
    """One request of HTTP/1.0. uvicorn ends its connection after the answer already."""

    unmeasured = False

    async def send(self, message: Any) -> None:
        """Send a body of unknown length as it is."""
        if message["type"] == "http.response.start":
            names = [name.lower() for name, _ in message.get("headers", [])]
            if b"content-length" not in names:
                self.unmeasured = True
                self.chunked_encoding = False
        elif self.unmeasured:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with answers that HTTP/1.0 can read."""

    def on_headers_complete(self) -> None:
        """Begin a request."""
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            self.cycle.__class__ = _Cycle  # uvicorn names the class itself and has no setting for it
