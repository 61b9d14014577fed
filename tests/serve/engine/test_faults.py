"""Faults with real processes: hung and killed engines under load, slow and half-closed clients, 200 adapters.

The engine of this file is its own, since it is stopped and killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from serve.adapters.validation import check
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.gateway.canary_monitor import CanaryPolicy
from serve.metering.limits import Limits
from store.rollout import adapters, deployments, releases
from store.rollout.adapters import AdapterRecord
from tests.serve.conftest import BASE
from tests.serve.gateway_harness import KEY, Part, running
from tests.support import raw_client
from tests.support.models import make_many_loras, read_config
from tests.support.oracle import answers
from trimtab_client import ApiError

pytestmark = [pytest.mark.anyio, pytest.mark.engine]
HI = [{"role": "user", "content": "Hello there"}]


@pytest.fixture(scope="module")
async def part(pool: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Part]:
    await pool.engines(BASE)[0].wait_ready(500)
    async with running(pool, tmp_path_factory.mktemp("platform"), BASE) as part:
        yield part


async def idle(part: Part, engine: Engine, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not engine.in_flight.outstanding and not part.gateway.rate_limiter.outstanding:
            return True
        await asyncio.sleep(0.02)
    return False


def raw_request(part: Part, tokens: int) -> tuple[str, int, bytes]:
    body = {"model": "assistant", "messages": HI, "stream": True, "max_tokens": tokens, "min_tokens": tokens}
    return raw_client.post(part.url + "/v1/chat/completions", body, {"Authorization": f"Bearer {KEY}"})


async def test_slow_client_delays_no_other_client(part: Part, engine: Engine) -> None:
    host, port, request = raw_request(part, 800)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    slow.connect((host, port))
    slow.sendall(request)
    try:
        for _ in range(3):
            answer = await asyncio.wait_for(part.client.chat.complete("assistant", HI), 30)
            assert answer["choices"][0]["message"]
    finally:
        slow.close()
    assert await idle(part, engine)


async def test_half_closed_client_that_disconnects_stops_its_generation(part: Part, engine: Engine) -> None:
    host, port, request = raw_request(part, 900)
    half = socket.create_connection((host, port))
    half.sendall(request)
    half.shutdown(socket.SHUT_WR)
    await asyncio.sleep(0.3)
    half.close()
    assert await idle(part, engine)


async def test_an_answer_that_does_not_begin_in_time_is_stopped(
    pool: EnginePool, engine: Engine, tmp_path: Path
) -> None:
    async with running(pool, tmp_path, BASE, Limits(first_byte_timeout_s=0.1)) as hasty:
        with pytest.raises(ApiError) as caught:
            await hasty.client.chat.complete("assistant", HI, max_tokens=900, min_tokens=900)
        assert (caught.value.status, caught.value.title) == (504, "engine_timeout")
        assert await idle(hasty, engine)


async def test_canary_without_its_adapter_falls_back_to_stable(part: Part, engine: Engine) -> None:
    gone = "a-00000000deadbeef"
    adapters.record(part.db, AdapterRecord(hash=gone, base=BASE, path=str(part.adapters_dir / gone)))
    release = releases.create(part.db, "assistant", BASE, adapter=gone)
    deployments.set_canary(part.db, "assistant", release.ref, 1.0)
    await part.reconciler.refresh()
    try:
        for stream in (False, True):
            response = await post(part, stream)
            assert response.status_code == 200
            assert response.headers["x-trimtab-lane"] == "stable"
            assert response.headers["x-trimtab-release"] == "assistant@1"
        with pytest.raises(ApiError) as caught:
            await part.client.chat.complete(release.ref, HI)
        assert (caught.value.status, caught.value.title) == (503, "adapter_unavailable")
    finally:
        deployments.rollback(part.db, "assistant", "test")
        await part.reconciler.refresh()


async def test_slow_canary_falls_back_to_stable(
    part: Part, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = releases.create(part.db, "assistant", BASE)
    deployments.set_canary(part.db, "assistant", release.ref, 1.0)
    await part.reconciler.refresh()
    try:
        monkeypatch.setattr(part.gateway.canaries, "policy", CanaryPolicy(first_token_s=0.001))
        slow = await post(part, stream=True)
        assert (slow.status_code, slow.headers["x-trimtab-lane"]) == (200, "stable")
        assert slow.text.rstrip().endswith("[DONE]")
        whole = await post(part, stream=False)
        assert whole.headers["x-trimtab-lane"] == "canary", "an answer in one piece shows no first token"
        assert await idle(part, engine), "what the canary was saying is stopped"
    finally:
        deployments.rollback(part.db, "assistant", "test")
        await part.reconciler.refresh()


async def test_a_clock_that_jumps_changes_nothing(
    part: Part, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting, limits, stickiness and supervision go by the monotonic clock; only records carry the time of day."""
    real, boots = time.time, engine.boots
    before = await part.client.chat.complete("assistant", HI)
    for jump in (+400 * 86_400.0, -400 * 86_400.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        after = await part.client.chat.complete("assistant", HI)
        assert after["choices"] == before["choices"]
        await engine.probe(30)
        await part.reconciler.reconcile()
    assert (engine.state, engine.boots) == ("ready", boots)


async def post(part: Part, stream: bool) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=60) as http:
        body = {"model": "assistant", "messages": HI, "stream": stream}
        headers = {"Authorization": f"Bearer {KEY}"}
        return await http.post(part.url + "/v1/chat/completions", json=body, headers=headers)


@pytest.mark.slow
async def test_two_hundred_adapters_on_one_engine(
    part: Part, engine: Engine, tiny_base: Path, tmp_path: Path
) -> None:
    """Many more than fit in memory (32) or in a batch (4): every one answers as itself, and again when it was evicted."""
    crowd = make_many_loras(tmp_path / "crowd", tiny_base, 200, rank=1, scale=0.6)
    names = [check(path, read_config(tiny_base), 16).hash for path in crowd]
    assert len(set(names)) == 200
    for path, name in zip(crowd, names, strict=True):
        shutil.copytree(path, engine.adapters_dir / name)
    sample = random.Random(1).sample(range(200), 10)
    told, _ = answers(tiny_base, [crowd[i] for i in sample], ["Hello there"], 6)
    limit = asyncio.Semaphore(16)

    async def ask(name: str) -> tuple[int, ...]:
        async with limit:
            answer = await engine.request(
                "POST",
                "/v1/chat/completions",
                {"model": name, "messages": HI, "max_tokens": 6, "temperature": 0, "ignore_eos": True,
                 "return_token_ids": True},
            )  # fmt: skip
            return tuple(answer["choices"][0]["token_ids"])

    try:
        first = await asyncio.gather(*(ask(name) for name in names))
        again = await asyncio.gather(*(ask(names[i]) for i in range(0, 200, 5)))
        assert again == first[::5]
        for i, ((ids, margin),) in zip(sample, told, strict=True):
            assert margin < 1e-3 or first[i] == ids
    finally:
        for name in names:
            await engine.unload_adapter(name)
        for name in names:
            shutil.rmtree(engine.adapters_dir / name)
    await engine.probe(30)


async def stop_in_the_middle(part: Part, pid: int) -> None:
    stopped = False
    async for _ in part.client.chat.stream("assistant", HI, max_tokens=3900, min_tokens=3900):
        if not stopped:
            os.kill(pid, signal.SIGSTOP)
            stopped = True


@pytest.mark.slow
async def test_a_hung_engine_is_restarted_and_streams_end_with_an_error(
    part: Part, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "spec", replace(engine.spec, probe_interval_s=1.0, probe_timeout_s=3.0))
    boots, pid = engine.boots, engine.pid
    assert pid is not None
    with pytest.raises(ApiError):
        await stop_in_the_middle(part, pid)
    assert engine.state != "ready"
    with pytest.raises(ApiError) as caught:
        await part.client.chat.complete("assistant", HI)
    assert caught.value.status == 503
    assert caught.value.retry_after is not None
    await engine.wait_ready(500)
    assert engine.boots == boots + 1
    answer = await part.client.chat.complete("assistant", HI)
    assert answer["choices"][0]["message"]["content"] is not None


def engine_core(pid: int) -> int:
    """Return the process that computes: the one below the server with the most processor time."""
    below = psutil.Process(pid).children(recursive=True)
    return int(max(below, key=lambda process: sum(process.cpu_times()[:2])).pid)


@pytest.mark.slow
async def test_a_stopped_core_is_found_though_the_server_answers(
    part: Part, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "spec", replace(engine.spec, probe_interval_s=1.0, probe_timeout_s=3.0))
    boots = engine.boots
    assert engine.pid is not None
    os.kill(engine_core(engine.pid), signal.SIGSTOP)
    await engine.request("GET", "/health", timeout=5)
    async with asyncio.timeout(60):
        while engine.state == "ready":
            await asyncio.sleep(0.05)
    assert "no token, no step and no computing" in engine.detail
    await engine.wait_ready(500)
    assert engine.boots == boots + 1


@pytest.mark.slow
async def test_long_prompts_on_a_loaded_machine_do_not_end_the_engine(
    part: Part, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe behind them waits for many times its timeout."""
    monkeypatch.setattr(engine, "spec", replace(engine.spec, probe_interval_s=0.5, probe_timeout_s=1.0))
    boots, began = engine.boots, time.monotonic()
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    try:
        prompts = [[100 + n] * 3900 for n in range(24)]
        body = {"model": BASE, "max_tokens": 4, "ignore_eos": True}
        answers = await asyncio.gather(
            *(engine.request("POST", "/v1/completions", {**body, "prompt": p}, timeout=280) for p in prompts)
        )
    finally:
        for process in load:
            process.kill()
            process.wait()
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [4] * len(prompts)
    assert (engine.state, engine.boots) == ("ready", boots)
    assert time.monotonic() - began > 3, "longer than a probe may wait without a sign of life"
