"""A real platform over a stub engine, served from a thread, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.support import stub_engine
from tests.support.asgi import serving
from trimtab.app import build_app, build_platform, running
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings

START_S = 60


@pytest.fixture(scope="session")
def platform_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data: Path = tmp_path_factory.mktemp("platform") / "data"
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    urls: list[str] = []

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(serving(stub_engine.app()))
            engines = {"main": EngineSettings(base=stub_engine.MODEL, url=engine, api_key="none")}
            deployments = {"assistant": {"base": stub_engine.MODEL}}
            training = {"keep_warm": False}
            settings = Settings(data=data, engines=engines, deployments=deployments, training=training)
            platform = build_platform(settings, "http://127.0.0.1:7860")
            await stack.enter_async_context(running(platform))
            urls.append(await stack.enter_async_context(serving(build_app(platform))))
            async with httpx.AsyncClient(base_url=urls[0]) as client:
                while not (await client.get("/readyz")).is_success:
                    await asyncio.sleep(0.05)
            started.set()
            await stop.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")  # the stub's name is no model: a run fails at once
        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
        thread.start()
        assert started.wait(START_S), "the platform did not start"
        yield urls[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)
    loop.close()
