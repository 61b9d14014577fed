"""A merged adapter on an engine of its own answers as the adapter does on the shared one."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.training.merge import main as merge
from serve.engine.engine import Engine
from tests.serve.conftest import BASE, tiny_spec
from tests.serve.engine.test_engine import greedy

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.slow]
PROMPTS = ("Hello", "The sea", "Give three tips")


async def test_it_says_what_the_adapter_says(
    engine: Engine, tiny_base: Path, loras: list[Path], adapter_names: list[str], tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    assert merge(["--model", str(tiny_base), "--adapter", str(loras[2]), "--out", str(merged)]) == 0
    await engine.load_adapter(adapter_names[2], loras[2])
    dedicated = Engine(tiny_spec(merged, "merged"), tmp_path)
    await dedicated.start()
    try:
        await dedicated.wait_ready(300)
        for prompt in PROMPTS:
            said = await greedy(dedicated, BASE, prompt)
            assert said == await greedy(engine, adapter_names[2], prompt)
            assert said != await greedy(engine, BASE, prompt)
    finally:
        await dedicated.stop()
        await engine.unload_adapter(adapter_names[2])
