"""The UI at `/`, which is ready a few seconds after the rest.

Importing Gradio takes most of the platform's start. So it is imported on a thread of its own while the gateway and the
operations API answer already and the engines load. Who asks for a page meanwhile waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging

from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

UI_TIMEOUT_S = 30.0
"""How long a request waits for the UI before it is answered with 503, seconds."""


class Screens:
    """ASGI app: the UI once `run` has opened it; requests before that wait."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._app: ASGIApp | None = None
        self._ready = asyncio.Event()
        self._unavailable = "The screens are still opening: try again in a few seconds."

    async def run(self) -> None:
        """Import and open the UI, and keep it open until cancelled."""
        try:
            app = await asyncio.to_thread(_build, self._url)
            async with app.router.lifespan_context(app):
                self._app = app
                self._ready.set()
                # What is loaded by now stays for good. Without this every full collection walks it, and all streams
                # pause meanwhile (bench/starting/full_collection.py).
                await asyncio.to_thread(gc.collect)
                gc.freeze()
                try:
                    await asyncio.Event().wait()
                finally:
                    gc.unfreeze()  # else the interpreter's end reports all of it as leaked
        except Exception as error:
            log.exception("the screens cannot be opened")
            self._unavailable = (
                f"The screens cannot be opened ({type(error).__name__}): the platform's log says why."
            )
            self._ready.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the UI, or with 503 where there is none in `UI_TIMEOUT_S`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), UI_TIMEOUT_S)
        app = self._app or PlainTextResponse(self._unavailable, 503, {"Retry-After": "5"})
        await app(scope, receive, send)


def _build(url: str) -> FastAPI:
    from feedback_ui.app import mount  # not before: Gradio's import is what takes the time

    return mount(FastAPI(openapi_url=None), base_url=url)
