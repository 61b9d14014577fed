"""Keeps other web pages away from a platform that asks nobody to sign in.

In single-user mode every request is trusted, so a page on the web must not be able to make the browser send one: the
Host must be a loopback name (against DNS rebinding), and an Origin, where there is one, must be our own (against
cross-site requests).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from common.net import LOOPBACK_HOSTS
from trimtab.api.problems import failure
from trimtab.web.cross_origin import key_only


class SameMachineOnly:
    """ASGI middleware; asks `active` at each request, so that the first user who is added ends single-user mode.

    A request that shows a key passes, known by that alone: a browser does not send one for a page that it must not.
    `also` are further Host names; `origins` are other origins whose pages `trimtab.web.cross_origin` lets in with a key.
    """

    def __init__(
        self, app: ASGIApp, active: Callable[[], bool], also: Iterable[str] = (), origins: Iterable[str] = ()
    ) -> None:
        self.app, self.active = app, active
        self.origins = frozenset(origins)
        self.names = LOOPBACK_HOSTS | {name.lower() for name in also}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] in ("http", "websocket") and self.active():
            fault = self._fault(
                {name: value for name, value in scope["headers"] if name in (b"host", b"origin")}
            )
            if fault and any(name == b"authorization" for name, _ in scope["headers"]):
                scope = key_only(scope)
            elif fault:
                await failure(scope["path"], 403, fault)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _fault(self, headers: dict[bytes, bytes]) -> str | None:
        address = headers.get(b"host", b"").decode("latin-1")
        host = urlsplit(f"//{address}").hostname
        if host not in self.names:
            return f"Host {host!r} is not accepted in single-user mode; accepted: {', '.join(sorted(self.names))}"
        origin = headers.get(b"origin")
        if origin is None or urlsplit(text := origin.decode("latin-1")).netloc == address:
            return None
        if not self.origins.intersection((text, "*")):
            return (
                f"requests of other web pages ({text[:200]}) are not accepted in single-user mode; "
                "`server.cors_origins` names those that may ask with a key"
            )
        return None
