"""Fixtures for the tests of serve/: one event loop and one real vLLM engine for the folder.

The engine serves a tiny random Llama (a second to load; the half minute is vLLM's own imports).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve.adapters.validation import check
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.engine.spec import EngineSpec
from tests.support.models import make_many_loras, make_tiny_base, read_config

BASE = "tiny"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One loop for all asynchronous tests and fixtures, so that engines can be shared between them."""
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / BASE)


@pytest.fixture(scope="session")
def loras(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> list[Path]:
    """Adapters of rank 4 for the tiny base, each with answers of its own."""
    return make_many_loras(tmp_path_factory.mktemp("loras"), tiny_base, 12, rank=4)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def tiny_spec(model: Path, name: str = "tiny-0", **changes: object) -> EngineSpec:
    """An engine for tests: little memory, short timeouts."""
    settings: dict[str, object] = {
        "kv_cache_memory_bytes": "64M",
        "args": {"max-model-len": 4096, "max-num-seqs": 64, "trust-request-chat-template": True},
        "probe_interval_s": 2.0,
        "probe_timeout_s": 10.0,
        "drain_s": 20.0,
        "threads": 1,
        "max_lora_rank": 16,
        "nice": 0,  # other tests run beside it; by its default it would wait for them for seconds
    }
    return EngineSpec(name=name, base=BASE, model=str(model), **(settings | changes))


@pytest.fixture(scope="package")
async def pool(tiny_base: Path, data_dir: Path, anyio_backend: str) -> AsyncIterator[EnginePool]:
    """One engine of the tiny base, shared by this folder; tests leave it serving."""
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    pool = EnginePool([tiny_spec(tiny_base)], data_dir)
    await pool.start()
    try:
        await pool.engines(BASE)[0].wait_ready(500)
        yield pool
        await a_stop_lets_answers_finish(pool)
    finally:
        await pool.stop()


async def a_stop_lets_answers_finish(pool: EnginePool) -> None:
    """Tested here, where the engine is stopped anyway."""
    engine = pool.engines(BASE)[0]
    await engine.wait_ready(500)
    body = {"model": BASE, "prompt": "Hello", "max_tokens": 200, "ignore_eos": True, "stream": True}
    data, stopping = b"", None
    with engine.in_flight.lease(None):
        answer = await engine.post("/v1/completions", json.dumps(body).encode())
        async for chunk in answer.chunks():
            data += chunk
            stopping = stopping or asyncio.create_task(pool.stop())
        engine.release(answer)
    assert stopping is not None
    await stopping
    assert b'"finish_reason":"length"' in data
    assert data.endswith(b"data: [DONE]\n\n")
    assert engine.pid is None


@pytest.fixture
async def engine(pool: EnginePool) -> Engine:
    """The shared engine, serving."""
    engine = pool.engines(BASE)[0]
    await engine.wait_ready(500)
    return engine


@pytest.fixture(scope="session")
def adapter_names(loras: list[Path], tiny_base: Path) -> list[str]:
    """The content hashes of `loras`."""
    return [check(path, read_config(tiny_base), 16).hash for path in loras]


async def running_requests(engine: Engine) -> int:
    """Return how many requests the engine works on."""
    text = str(await engine.request("GET", "/metrics"))
    return sum(int(float(v)) for v in re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.M))


async def until_running(engine: Engine, asking: asyncio.Task[object]) -> None:
    """Wait until the engine works on what `asking` asks."""
    async with asyncio.timeout(60):
        while not await running_requests(engine):
            assert not asking.done(), "the answer is whole before it was seen under way"
            await asyncio.sleep(0.005)
