"""Parts stop in the reverse order of their start, also when the start fails half-way."""

from __future__ import annotations

import asyncio
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from store.errors import StoreError
from trimtab import ui_mount
from trimtab.app import build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.lifespan import running
from trimtab.platform import Platform

PARTS = {
    "runs": "runner.queue.aclose",
    "worker": "loop.workers.aclose",
    "long work": "long_work.close",
    "gateway": "gateway.aclose",
    "engines": "serving.pool.stop",
    "recorder": "recorder.aclose",
    "usage": "usage.close",
    "store": "db.close",
}
"""What each part is stopped by, in the order of stopping."""


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setattr(ui_mount, "_build", lambda url: FastAPI())
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    return build_platform(Settings(data=tmp_path / "data", engines=engines), "http://127.0.0.1:7860")


@pytest.fixture
def stopped(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the parts as they are stopped."""
    seen: list[str] = []
    for name, path in PARTS.items():
        owners, _, method = path.rpartition(".")
        owner = attrgetter(owners)(platform)
        stop = getattr(owner, method)

        def noted(name: str = name, stop: Any = stop) -> Any:
            seen.append(name)
            return stop()

        monkeypatch.setattr(type(owner), method, lambda self, noted=noted: noted())
    return seen


def test_parts_stop_in_the_reverse_order_of_their_start(platform: Platform, stopped: list[str]) -> None:
    async def start_and_stop() -> None:
        async with running(platform):
            platform.paths.write_platform({"url": platform.url})

    asyncio.run(start_and_stop())
    assert stopped == list(PARTS)
    assert not platform.paths.platform.exists()


@pytest.mark.parametrize(
    ("step", "first"), [("serving.reconciler.refresh", "runs"), ("runner.start", "runs")]
)
def test_a_start_that_fails_stops_what_had_started_and_closes_the_store(
    platform: Platform, stopped: list[str], monkeypatch: pytest.MonkeyPatch, step: str, first: str
) -> None:
    async def fail() -> None:
        raise StoreError("the disk is gone")

    owner, _, method = step.rpartition(".")
    monkeypatch.setattr(attrgetter(owner)(platform), method, fail)

    async def start() -> None:
        async with running(platform):
            pass

    with pytest.raises(StoreError, match="the disk is gone"):
        asyncio.run(start())
    parts = list(PARTS)
    assert stopped == parts[parts.index(first) :]


def test_a_part_that_fails_to_stop_keeps_no_other_from_stopping(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise OSError("an engine cannot be stopped")

    monkeypatch.setattr(platform.serving.pool, "stop", fail)

    async def start_and_stop() -> None:
        async with running(platform):
            pass

    with pytest.raises(OSError, match="cannot be stopped"):
        asyncio.run(start_and_stop())
    assert platform.db._closed
