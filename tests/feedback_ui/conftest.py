"""The screens over the contract's double, on a real socket of this machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

import feedback_ui
from tests.feedback_ui.double.stub import Stub


@dataclass
class Screens:
    """A running server: its address and the double's memory."""

    url: str
    stub: Stub


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """The test runner keeps its own."""


@pytest.fixture(scope="session")
def served() -> Iterator[Screens]:
    stub = Stub()
    app = stub.app()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    feedback_ui.mount(app, lambda: url)
    server = _Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the screens did not start within 30 s"
        time.sleep(0.02)
    yield Screens(url, stub)
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def screens(served: Screens) -> Screens:
    """The same server with an empty memory."""
    vars(served.stub).update(vars(Stub()))
    return served


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(
        viewport={"width": 1280, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    # Generous, for machines that do something else besides: a pass takes well under a second.
    page.set_default_timeout(30_000)
    expect.set_options(timeout=20_000)
    yield page
    context.close()
