"""Take adapters off engines, and delete their directories."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from serve.engine.engine import Engine
from serve.errors import EngineFailed


async def take_off(name: str, engines: Sequence[Engine], drain_timeout_s: float, path: Path | None) -> None:
    """Refuse the adapter's new requests, wait for the running ones, unload it, and delete its directory `path`."""
    async with contextlib.AsyncExitStack() as stack:
        for engine in engines:
            await stack.enter_async_context(
                engine.in_flight.pause_adapter(name, drain_timeout_s, refuse=True)
            )
        for engine in engines:
            with contextlib.suppress(EngineFailed):  # it is restarting, which unloads the adapter
                await engine.unload_adapter(name)
        if path is not None:
            await asyncio.to_thread(remove, path)


def remove(path: Path) -> None:
    """Delete a directory by way of a rename, so that its name never stands for half an adapter."""
    doomed = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.gone")
    with contextlib.suppress(FileNotFoundError):
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
