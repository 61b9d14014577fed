"""The UI of a platform in the tests' process, built when a page is first asked for."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from trimtab.ui_mount import Screens


class LazyScreens(Screens):
    """Screens that import and open Gradio at the first request; most tests of the API never make one."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._asked = asyncio.Event()

    async def run(self) -> None:
        await self._asked.wait()
        await super().run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._asked.set()
        await super().__call__(scope, receive, send)
