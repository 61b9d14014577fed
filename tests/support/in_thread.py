"""A platform that serves from a thread of the test, found by the command line as one that runs elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from trimtab import server as up
from trimtab.app import build_app
from trimtab.platform import Platform

LONG_S = 30
"""How long a start or a stop may take, seconds."""


class _Server(uvicorn.Server):
    """A server in a thread; says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    def install_signal_handlers(self) -> None:
        """The test runner keeps its own."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def platform_in_thread(build: Callable[[str], Platform]) -> Iterator[Platform]:
    """Serve what `build` makes for a URL; until the end the environment has its URL and key."""
    listener = up.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    platform = build(url)
    server = _Server(uvicorn.Config(build_app(platform), log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMTAB_URL", url)
        patch.setenv("TRIMTAB_KEY", platform.key)
        thread.start()
        assert server.ready.wait(LONG_S)
        yield platform
        server.should_exit = True
        thread.join(LONG_S)
