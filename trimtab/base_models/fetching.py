"""Downloads that the platform starts itself, for engines whose model is a hub id that is not on this disk."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from serve.engine.engine import Engine
from serve.engine.process import GuardedProcess, ProcessOptions
from serve.errors import EngineFailed
from trimtab.base_models.local import is_hub_id, resolve


class Downloads:
    """One download at a time per model, each in a child process with a log of its own."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._locks: dict[str, asyncio.Lock] = {}

    def attach(self, engine: Engine, revision: str | None) -> None:
        """Have the engine's model downloaded before it starts, if it is a hub id that is not here."""
        model = engine.spec.model
        if engine.spec.url is None and is_hub_id(model):
            engine.fetch = lambda: self._fetch(engine.spec.name, model, revision)

    async def _fetch(self, engine: str, model: str, revision: str | None) -> Path:
        async with self._locks.setdefault(model, asyncio.Lock()):
            here = await asyncio.to_thread(resolve, model, revision)
            if here.is_dir():
                return here
            log = self._logs / f"download-{engine}.log"
            argv = [sys.executable, "-m", "trimtab.base_models.download", model]
            process = await GuardedProcess.start(
                argv + (["--revision", revision] if revision else []), ProcessOptions(log=log)
            )
            try:
                status = await process.wait()
            finally:
                if process.returncode is None:
                    await asyncio.shield(process.stop(0))
            lines = (await asyncio.to_thread(log.read_text)).strip().splitlines() or ["no reason given"]
            if status != 0:
                raise EngineFailed(engine, f"{model} can't be downloaded: {lines[-1]}")
            return Path(lines[-1])
