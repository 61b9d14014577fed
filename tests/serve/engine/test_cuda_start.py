"""How an engine starts on an NVIDIA card: its command line and environment, read here without one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import serve.engine.engine
from serve.engine.cards.cuda_environment import CACHES, GRAPH_SIZES
from serve.engine.engine import Engine
from serve.engine.spec import EngineSpec, command, environment


def spec(device: str = "cuda", **more: object) -> EngineSpec:
    return EngineSpec("main", "base", "hub/model", device=device, **more)  # type: ignore[arg-type]


def started(spec: EngineSpec) -> dict[str, str]:
    return environment(spec, "key", Path("/data/adapters"), Path("/tmp/e"))


def test_flashinfers_sampler_is_not_compiled_unless_the_operator_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "VLLM_USE_FLASHINFER_SAMPLER"
    monkeypatch.delenv(name, raising=False)
    assert started(spec())[name] == "0"
    assert started(spec(env={name: "1"}))[name] == "1"
    assert name not in started(spec("cpu"))
    monkeypatch.setenv(name, "1")
    assert started(spec())[name] == "1"


def test_what_a_start_compiles_stays_in_the_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CACHES:
        monkeypatch.delenv(name, raising=False)
    found = started(spec())
    assert {found[name].rpartition("/")[0] for name in CACHES} == {"/data/cache/engines"}
    assert len({found[name] for name in CACHES}) == len(CACHES)
    monkeypatch.setenv("VLLM_CACHE_ROOT", "/elsewhere")
    assert started(spec())["VLLM_CACHE_ROOT"] == "/elsewhere"
    assert started(spec(env={"TRITON_CACHE_DIR": "/mine"}))["TRITON_CACHE_DIR"] == "/mine"


@pytest.mark.parametrize("path", ["/usr/bin:/bin", f"/usr/bin:{Path(sys.executable).parent}", None])
def test_the_tools_beside_the_interpreter_are_found(
    path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", path)
    found = started(spec())["PATH"].split(os.pathsep)
    assert found[0] == str(Path(sys.executable).parent)
    assert found.count(found[0]) == 1
    assert "/usr/bin" in found


def test_cards_are_counted_as_the_drivers_tool_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert started(spec())["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_few_cuda_graphs_are_captured_unless_arguments_say_which() -> None:
    line = " ".join(command(spec(), 80))
    assert f"--cudagraph-capture-sizes {' '.join(map(str, GRAPH_SIZES))} --" in line
    for args in ({"enforce_eager": True}, {"compilation-config": {"cudagraph_mode": "NONE"}}):
        assert "--cudagraph-capture-sizes" not in command(spec(args=args), 80)
    own = " ".join(command(spec(args={"--cudagraph-capture-sizes": [1, 2]}), 80))
    assert "--cudagraph-capture-sizes 1 2" in own
    assert "512" not in own
    assert "--cudagraph-capture-sizes" not in command(spec("cpu"), 80)


@contextlib.asynccontextmanager
async def starting(
    code: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Engine, Path]]:
    """Start an engine that runs `code`; yield it after its second start, and the notes of who shared imports."""
    notes = directory / "notes"
    note = "import os, sys; print(os.environ.get('TRIMTAB_ENGINE_PRELOAD'), file=open(sys.argv[1], 'a'), flush=True)"
    monkeypatch.delenv("TRIMTAB_ENGINE_PRELOAD", raising=False)
    monkeypatch.setattr(serve.engine.engine, "BACKOFF_S", (0.0,))
    argv = [sys.executable, "-c", f"{note}; {code}", str(notes)]
    monkeypatch.setattr(serve.engine.engine, "command", lambda spec, port: argv)
    engine = Engine(spec(), directory)
    await engine.start()
    try:
        async with asyncio.timeout(60):
            while not notes.exists() or len(notes.read_text().split()) < 2:
                await asyncio.sleep(0.05)
        yield engine, notes
    finally:
        await engine.stop()


@pytest.mark.anyio
async def test_a_start_that_failed_is_tried_again_without_shared_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with starting("sys.exit(0)", tmp_path, monkeypatch) as (_, notes):
        pass
    assert notes.read_text().split()[:2] == ["None", "0"]


@pytest.mark.anyio
async def test_a_start_whose_shared_imports_hang_is_tried_again_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.engine.engine, "PRELOAD_S", 1.0)
    async with starting("import time; time.sleep(600)", tmp_path, monkeypatch) as (engine, notes):
        await asyncio.sleep(1.5)
        assert engine.boots == 2, "without them it may take its time"
    assert notes.read_text().split() == ["None", "0"]
