"""Signing in and out with a browser: a plain page, a session cookie that scripts cannot read."""

from __future__ import annotations

import asyncio
import html
import logging
import math
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.auth import SESSION_COOKIE
from serve.errors import RequestError
from serve.gateway.openai_paths import DETOKENIZE, TOKENIZE, WITHOUT_PREFIX
from store.accounts import users
from trimtab.background import call_store
from trimtab.platform import Platform
from trimtab.web.access_notice import ADD_USER

log = logging.getLogger(__name__)

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sign in to Trimtab</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root{{color-scheme:light dark}}
body{{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:95vh;margin:0}}
form{{width:min(20rem,90vw);display:grid;gap:.75rem}}h1{{font-size:1.3rem;margin:0 0 .5rem}}
input,button{{font:inherit;padding:.55rem .7rem;border-radius:.5rem;border:1px solid #8888}}
button{{background:#1f5f7a;color:#fff;border:0;cursor:pointer}}[role=alert]{{color:#c0392b;margin:0}}</style></head><body>
<main><form method="post" action="/login"><h1>Sign in to Trimtab</h1>{fault}
<label for="name">Name</label><input id="name" name="name" autocomplete="username" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Sign in</button></form></main></body></html>"""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


def page(fault: str | None = None, status: int = 200) -> HTMLResponse:
    """Return the sign-in page, with what went wrong before."""
    shown = f'<p role="alert">{html.escape(fault)}</p>' if fault else ""
    return HTMLResponse(PAGE.format(fault=shown), status, {"Content-Security-Policy": POLICY})


async def show(request: Request) -> Response:
    """GET /login; says so where nobody can sign in yet."""
    platform: Platform = request.app.state.platform
    if not await call_store(platform.db, users.count):
        return page(f"No user exists, so nobody can sign in yet. On this machine: {ADD_USER}")
    return page()


async def sign_in(request: Request) -> Response:
    """POST /login: starts a session, or shows the page again; 429 after too many wrong passwords."""
    platform: Platform = request.app.state.platform
    form = await request.form()
    name, password = str(form.get("name", "")), str(form.get("password", ""))
    limit, host = platform.sign_in_limit, request.client.host if request.client else ""
    if wait_s := limit.wait_s(name, host):
        answer = page(f"Too many wrong passwords. Try again in {math.ceil(wait_s / 60)} minutes.", 429)
        answer.headers["Retry-After"] = str(wait_s)
        return answer
    limit.began(name, host)
    user = await call_store(platform.db, users.authenticate, name, password)
    if user is None:
        log.warning("a wrong password for %r from %s", name[:100], host)
        return page("That name and password do not go together.", 401)
    limit.succeeded(name, host)
    token = await call_store(platform.db, users.start_session, user.name)
    response = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    response.set_cookie(SESSION_COOKIE, token, httponly=True, samesite="lax", secure=secure, path="/")
    return response


async def sign_out(request: Request) -> Response:
    """POST /logout: ends the session."""
    platform: Platform = request.app.state.platform
    token = request.cookies.get(SESSION_COOKIE)
    if token:
        await call_store(platform.db, users.end_session, token)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


ROUTES = [
    Route("/login", show, methods=["GET"]),
    Route("/login", sign_in, methods=["POST"]),
    Route("/logout", sign_out, methods=["POST"]),
]

OPEN_PATHS = (
    "/v1", "/api", "/metrics", "/healthz", "/readyz", "/login", "/logout", TOKENIZE, DETOKENIZE, *WITHOUT_PREFIX,
)  # fmt: skip
"""What answers for itself whether the caller is known; everything else is the UI."""


class SignInFirst:
    """ASGI middleware: a browser without a session is redirected from the UI to the sign-in page."""

    def __init__(self, app: ASGIApp, platform: Platform) -> None:
        self.app, self.platform = app, platform

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with a redirect (a page) or 401 (anything else)."""
        if scope["type"] == "http" and not scope["path"].startswith(OPEN_PATHS):
            request = Request(scope)
            if not await known(self.platform, request):
                page_wanted = "text/html" in request.headers.get("accept", "") and request.method == "GET"
                response: Response = (
                    RedirectResponse("/login", 303) if page_wanted else Response(status_code=401)
                )
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)


async def known(platform: Platform, request: Request) -> Any:
    """Return the caller, or None."""
    host = request.client.host if request.client else ""
    try:
        return await asyncio.to_thread(
            platform.authenticator.authenticate, request.headers, request.cookies, host
        )
    except RequestError:
        return None
