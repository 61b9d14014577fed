"""The UI at `/`, which arrives a few seconds after the rest.

Importing Gradio takes most of the platform's start. So it is imported on a thread of its own while the gateway and the
operations API answer already and the engines load; until then `/` says so with status 503, and a browser that shows the
page comes back by itself.
"""

from __future__ import annotations

import asyncio
import logging

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Trimtab</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="1"><style>
:root{{color-scheme:light dark}}
body{{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:95vh;margin:0}}
h1{{font-size:1.3rem;margin:0}}p{{margin:.25rem 0}}</style></head><body>
<main role="status"><h1>Trimtab</h1><p>{said}</p></main></body></html>"""

OPENING = "Opening the screens: a few seconds. This page comes by itself."


class Screens:
    """ASGI app: the UI once `run` has built it, a page that waits for it before."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._app: ASGIApp | None = None
        self._said = OPENING

    async def run(self) -> None:
        """Imports and opens the UI, and keeps it open until it is cancelled."""
        try:
            app = await asyncio.to_thread(_build, self._url)
            async with app.router.lifespan_context(app):
                self._app = app
                await asyncio.Event().wait()
        except Exception as error:
            log.exception("the screens cannot be opened")
            self._said = (
                f"The screens cannot be opened ({type(error).__name__}); the platform's log says why."
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with the UI, or with 503 while there is none."""
        if self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._wait(Request(scope))(scope, receive, send)

    def _wait(self, request: Request) -> Response:
        headers = {"Retry-After": "1", "Cache-Control": "no-store"}
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(PAGE.format(said=self._said), 503, headers)
        return PlainTextResponse(self._said, 503, headers)


def _build(url: str) -> FastAPI:
    import feedback_ui  # not before: this import is what takes the time

    return feedback_ui.mount(FastAPI(openapi_url=None), base_url=url)
