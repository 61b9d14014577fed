"""A copy of an adapter with a multiple of its scale, on one engine for as long as it is measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from serve.adapters.files import CONFIG, WEIGHTS
from serve.adapters.multiple import Multiple, judge_multiple, not_compared
from serve.adapters.parity import NOT_FINITE, Parity, measure
from serve.adapters.removal import take_off
from serve.engine.engine import Engine
from serve.errors import EngineFailed
from store.values import Probe

PREFIX = "trimtab-parity-"
"""Of the copies' names on the engine; published adapters' names differ from it, so that none is routed to or resolved."""
DRAIN_S = 60.0


@contextlib.asynccontextmanager
async def loaded_scaled_copy(engine: Engine, adapter: Path, factor: int) -> AsyncIterator[str]:
    """Load a copy of the published directory `adapter` with `factor` times its scale; gives its name on the engine.

    Copy and name are gone when the block ends in any way. The directory beside the adapter has the name of a half-placed
    one, so that it is deleted in time if this process is killed. Raises `OSError`, `AdapterNotLoaded`.
    """
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"  # vLLM may answer a reused name from the old weights' cache
    path = adapter.with_name(f".{adapter.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with engine.in_flight.lease(name):  # keeps the reconciler from unloading it
            await asyncio.to_thread(write_scaled_copy, adapter, path, factor)
            await engine.load_adapter(name, path)
            yield name
    finally:
        # A cancelled publishing cleans up too, so it must not be cut short a second time.
        await asyncio.shield(_discard(engine, name, path))


async def compare_at_multiple(
    engine: Engine, adapter: Path, probe: Probe, parity: Parity, multiple: Multiple
) -> Parity:
    """Add to `parity` what the engine computes with a scaled copy of `adapter`.

    A copy that cannot be made, loaded or computed with says nothing of the adapter: then the note says why. Raises
    `EngineFailed` when the engine does not answer.
    """
    try:
        async with loaded_scaled_copy(engine, adapter, multiple.factor) as name:
            served = await measure(engine, name, probe)
    except OSError as error:
        return not_compared(parity, f"its copy cannot be written: {error.strerror or error}")
    except EngineFailed as error:
        if not error.status and NOT_FINITE not in error.message:
            raise
        return not_compared(parity, error.message)
    return judge_multiple(parity, multiple, served)


async def _discard(engine: Engine, name: str, path: Path) -> None:
    try:
        await take_off(name, [engine], DRAIN_S, None)
    finally:
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


def write_scaled_copy(adapter: Path, target: Path, factor: int) -> None:
    """Write `adapter` to the new directory `target` with `factor` times its scale. Blocking; raises `OSError`."""
    target.mkdir()
    try:
        os.link(adapter / WEIGHTS, target / WEIGHTS)
    except OSError:  # a file system without hard links
        shutil.copyfile(adapter / WEIGHTS, target / WEIGHTS)
    config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    (target / CONFIG).write_text(json.dumps(scale_config(config, factor)), encoding="utf-8")


def scale_config(config: dict[str, Any], factor: int) -> dict[str, Any]:
    """Return PEFT settings with `factor` times each scale."""
    patterns = {name: factor * alpha for name, alpha in (config.get("alpha_pattern") or {}).items()}
    return {**config, "lora_alpha": factor * config["lora_alpha"], "alpha_pattern": patterns}
