"""An engine besides the shared one: of a merged adapter, started without preloading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from align.training.merge import main as merge
from serve.engine import vllm_preload
from serve.engine.engine import Engine
from tests.serve.conftest import BASE, tiny_spec
from tests.serve.engine.test_engine import greedy

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.slow]
PROMPTS = ("Hello", "The sea", "Give three tips")


@pytest.fixture(scope="module")
async def dedicated(
    anyio_backend: str, tiny_base: Path, loras: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Engine]:
    directory = tmp_path_factory.mktemp("dedicated")
    merged = directory / "merged"
    assert merge(["--model", str(tiny_base), "--adapter", str(loras[2]), "--out", str(merged)]) == 0
    engine = Engine(tiny_spec(merged, "merged", env={vllm_preload.SWITCH: "0"}), directory)
    await engine.start()
    try:
        await engine.wait_ready(500)
        yield engine
    finally:
        await engine.stop()


async def test_an_engine_without_preloading_serves_from_processes_of_its_own(dedicated: Engine) -> None:
    server = psutil.Process(dedicated.pid)
    lines = {tuple(p.cmdline()) for p in server.children(recursive=True)}
    assert lines
    assert not any("multiprocessing.forkserver" in " ".join(line) for line in lines)


async def test_a_merged_adapter_answers_as_the_adapter_does(
    dedicated: Engine, engine: Engine, loras: list[Path], adapter_names: list[str]
) -> None:
    await engine.load_adapter(adapter_names[2], loras[2])
    try:
        for prompt in PROMPTS:
            said = await greedy(dedicated, BASE, prompt)
            assert said == await greedy(engine, adapter_names[2], prompt)
            assert said != await greedy(engine, BASE, prompt)
    finally:
        await engine.unload_adapter(adapter_names[2])
