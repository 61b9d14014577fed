"""Ctrl-C while requests are open: each client gets an error that it can read, and the log no traceback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from tests.support import stub_engine
from tests.support.asgi import serving
from tests.support.platform import PlatformProcess, wait_for

SETTINGS = """
[server]
drain_s = 1
[engines.main]
base = "{base}"
url = "{url}"
[deployments.assistant]
base = "{base}"
[training]
keep_warm = false
"""


@pytest.fixture
def stub() -> Starlette:
    return stub_engine.app()


@pytest.fixture
def engine(stub: Starlette) -> Iterator[str]:
    """A stand-in for an engine, whose answers never end, in a thread of its own."""
    found: list[str] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with serving(stub) as url:
            found.append(url)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield found[0]
    loop.call_soon_threadsafe(done.set)
    thread.join(30)


@pytest.fixture
def platform(tmp_path: Path, engine: str) -> Iterator[PlatformProcess]:
    settings = SETTINGS.format(base=stub_engine.MODEL, url=engine)
    platform = PlatformProcess(tmp_path / "data", settings)
    try:
        yield platform.start()
    finally:
        platform.stop()


def ask(platform: PlatformProcess, text: str, begun: threading.Event | None = None) -> tuple[int, str]:
    body: dict[str, Any] = {
        "model": "assistant", "stream": True, "messages": [{"role": "user", "content": text}]
    }  # fmt: skip
    url = platform.url + "/v1/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=60, trust_env=False) as response:
        data = ""
        for piece in response.iter_text():
            data += piece
            if begun and data.count("word ") == 3:
                begun.set()
        return response.status_code, data


def listen(platform: PlatformProcess, begun: threading.Event) -> bool:
    """Hold the event stream that an open tab of the UI holds."""
    url = platform.url + "/gradio_api/heartbeat/a-session"
    with httpx.stream("GET", url, timeout=60, trust_env=False) as response:
        begun.set()
        found = response.headers["content-type"].startswith("text/event-stream")
        with contextlib.suppress(httpx.RemoteProtocolError):
            for _ in response.iter_bytes():
                pass
        return found


def questions(stub: Starlette) -> list[str]:
    """The last messages of the chats that have arrived at the engine."""
    return [body["messages"][-1]["content"] for body in stub.state.asked if "messages" in body]


@pytest.mark.slow
def test_ctrl_c_with_open_requests_prints_no_traceback(platform: PlatformProcess, stub: Starlette) -> None:
    listening, streams = threading.Event(), threading.Event()
    wait_for(lambda: platform.request("GET", "/").status_code == 200, 120, platform.say)
    with ThreadPoolExecutor(3) as threads:
        page = threads.submit(listen, platform, listening)
        streaming = threads.submit(ask, platform, "hold 3", streams)
        waiting = threads.submit(ask, platform, "wait 0")
        try:
            assert listening.wait(30)
            assert streams.wait(30)
            wait_for(lambda: "wait 0" in questions(stub), 30)
        finally:
            platform.stop()
        status, text = streaming.result(30)
        assert status == 200
        assert json.loads(text.strip().rpartition("data: ")[2])["error"]["code"] == "shutting_down"
        assert page.result(30), "a browser's tab was listening"
        status, text = waiting.result(30)
        assert (status, json.loads(text)["error"]["code"]) == (503, "shutting_down")
    log = platform.log.read_text()
    assert "Traceback" not in log, log
    assert "Exception" not in log, log
