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

PATIENCE_S = 30.0
"""How long a request waits for the UI before it is told to come back, seconds."""


class Screens:
    """ASGI app: the UI once `run` has opened it; requests before that wait."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._app: ASGIApp | None = None
        self._settled = asyncio.Event()
        self._said = "The screens are still opening: try again in a few seconds."

    async def run(self) -> None:
        """Imports and opens the UI, and keeps it open until it is cancelled."""
        try:
            app = await asyncio.to_thread(_build, self._url)
            async with app.router.lifespan_context(app):
                self._app = app
                self._settled.set()
                # What is loaded by now stays for good. Without this every full collection walks it, and all streams
                # stand still meanwhile (bench/full_collection.py).
                await asyncio.to_thread(gc.collect)
                gc.freeze()
                try:
                    await asyncio.Event().wait()
                finally:
                    gc.unfreeze()  # else the interpreter's end reports all of it as leaked
        except Exception as error:
            log.exception("the screens cannot be opened")
            self._said = (
                f"The screens cannot be opened ({type(error).__name__}): the platform's log says why."
            )
            self._settled.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with the UI, or with 503 where there is none in `PATIENCE_S`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), PATIENCE_S)
        app = self._app or PlainTextResponse(self._said, 503, {"Retry-After": "5"})
        await app(scope, receive, send)


def _build(url: str) -> FastAPI:
    import feedback_ui  # not before: this import is what takes the time

    return feedback_ui.mount(FastAPI(openapi_url=None), base_url=url)
