"""Busy is not dead: what an engine shows while its probe waits decides. Real processes and sockets; vLLM is stood in for,
since it cannot be made to be slow or silent at will. tests/serve/engine/test_faults.py has the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import serve.engine.engine
from serve.engine.engine import Engine, niceness
from serve.engine.liveness import Sign, Stall
from serve.engine.processor_use import ProcessorUse
from serve.engine.spec import EngineSpec
from serve.errors import EngineFailed
from tests.support.asgi import serving

pytestmark = pytest.mark.anyio
SOUND = {"choices": [{"logprobs": {"token_logprobs": [-0.1]}}]}
POISONED = {"choices": [{"logprobs": {"token_logprobs": [None]}}]}


# ---- the rule


def test_silence_ends_it_and_any_sign_starts_the_count_again() -> None:
    stall = Stall(probe_timeout_s=10, busy_timeout_s=100)
    for _ in range(5):
        stall.add(9, Sign.NOTHING)
        stall.add(1, Sign.COMPUTING)
    assert stall.reason() is None
    stall.add(11, Sign.NOTHING)
    assert "no token, no step and no computing for 11 s (probe_timeout_s is 10)" in str(stall.reason())


def test_computing_without_a_step_has_a_longer_timeout_and_progress_none() -> None:
    stall = Stall(probe_timeout_s=10, busy_timeout_s=100)
    for _ in range(1000):
        stall.add(60, Sign.COMPUTING)
        stall.add(1, Sign.PROGRESS)
    assert stall.reason() is None
    stall.add(60, Sign.COMPUTING)
    stall.add(60, Sign.COMPUTING)
    assert "computing for 120 s without finishing a step (busy_timeout_s is 100)" in str(stall.reason())


# ---- processor use

SPIN = "print(flush=True)\nwhile True: pass"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN!r}])"
WAIT = "import time; print(flush=True); time.sleep(600)"


@contextlib.asynccontextmanager
async def child(code: str, nice: int = 0) -> AsyncIterator[int]:
    """Run `code`, which prints a line once it does what it is for: beside others that may take seconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"import os; os.nice({nice}); exec({code!r})",
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline()
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def sampled(pid: int, seconds: float = 1.0) -> bool:
    use = ProcessorUse(pid)
    assert not use.sample(), "the first has nothing to compare with"
    await asyncio.sleep(seconds)
    return use.sample()


@pytest.mark.parametrize("code", [SPIN, CHILD])
async def test_a_process_that_gets_few_cores_computes(code: str) -> None:
    async with child(SPIN), child(SPIN), child(code, nice=19) as pid:
        assert await sampled(pid, 5.0), "its share of a core is small, and its wish for one is whole"


async def test_a_process_that_waits_does_not_compute() -> None:
    async with child(WAIT) as pid:
        assert not await sampled(pid)


async def test_a_stopped_process_does_not_compute() -> None:
    async with child(SPIN) as pid:
        os.kill(pid, signal.SIGSTOP)
        assert not await sampled(pid)


async def test_a_process_that_ended_does_not_compute() -> None:
    async with child(SPIN) as pid:
        pass
    assert not await sampled(pid, 0.1)


# ---- an engine elsewhere: counters and answers


class Stub:
    """A server whose probe waits until `answer` is set, and whose counters move while `steps` is true."""

    def __init__(self) -> None:
        self.answer: Any = SOUND
        self.status = 200
        self.hold = False
        self.steps = True
        self.count = 0
        self.probes = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/metrics", self.metrics),
                Route("/v1/completions", self.complete, methods=["POST"]),
                Route("/v1/load_lora_adapter", self.wait, methods=["POST"]),
            ]
        )

    async def health(self, request: Request) -> Response:
        return JSONResponse({})

    async def metrics(self, request: Request) -> Response:
        self.count += self.steps
        return PlainTextResponse(
            f'vllm:num_requests_running{{engine="0"}} 4.0\nvllm:iteration_tokens_total_count{{engine="0"}} {self.count}\n'
            f'vllm:request_success_total{{engine="0",finished_reason="abort"}} {time.monotonic()}\n'
            f"process_cpu_seconds_total {time.monotonic()}\n"
        )

    async def complete(self, request: Request) -> Response:
        self.probes += 1
        while self.hold and not await request.is_disconnected():
            await asyncio.sleep(0.01)
        return JSONResponse(self.answer, self.status)

    async def wait(self, request: Request) -> Response:
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        return JSONResponse({})


@pytest.fixture
async def stub() -> Stub:
    return Stub()


@pytest.fixture
async def engine(stub: Stub, tmp_path: Path) -> AsyncIterator[Engine]:
    async with serving(stub.app()) as url:
        spec = EngineSpec(
            "stub", "b", "b", url=url, probe_interval_s=0.1, probe_timeout_s=0.6, busy_timeout_s=2.0
        )
        engine = Engine(spec, tmp_path)
        await engine.start()
        await engine.wait_ready(30)
        try:
            yield engine
        finally:
            stub.hold = False
            await engine.stop()


async def until_failed(engine: Engine, seconds: float = 20) -> str:
    async with asyncio.timeout(seconds):
        while engine.state != "failed":
            await asyncio.sleep(0.01)
    return engine.detail


async def test_a_probe_may_wait_while_steps_are_finished(stub: Stub, engine: Engine) -> None:
    stub.hold = True
    await asyncio.sleep(3)
    assert (engine.state, engine.boots) == ("ready", 1)
    assert stub.probes >= 2, "a probe was waiting"


async def test_a_probe_may_wait_while_answers_move(stub: Stub, engine: Engine) -> None:
    stub.hold, stub.steps = True, False
    for _ in range(60):
        await asyncio.sleep(0.05)
        engine.last_sign_of_life = time.monotonic()
    assert (engine.state, engine.boots) == ("ready", 1)


async def test_an_engine_without_a_sign_of_life_is_found(stub: Stub, engine: Engine) -> None:
    stub.hold, stub.steps = True, False
    assert "no token, no step and no computing" in await until_failed(engine)


async def test_a_poisoned_engine_is_found_while_its_answers_move(stub: Stub, engine: Engine) -> None:
    stub.answer = POISONED
    moving = asyncio.create_task(move(engine))
    try:
        assert "did not generate a token" in await until_failed(engine)
    finally:
        moving.cancel()


async def test_a_poisoned_engine_that_refuses_the_probe_is_found(stub: Stub, engine: Engine) -> None:
    stub.answer = {"error": {"message": "Out of range float values are not JSON compliant"}}
    stub.status = 400
    assert "Out of range" in await until_failed(engine)


async def test_a_proxy_that_gives_up_waiting_does_not_end_a_busy_engine(stub: Stub, engine: Engine) -> None:
    stub.status = 504
    await asyncio.sleep(2)
    assert (engine.state, engine.boots) == ("ready", 1)


async def move(engine: Engine) -> None:
    while True:
        engine.last_sign_of_life = time.monotonic()
        await asyncio.sleep(0.02)


async def test_requests_without_a_timeout_end_with_the_engine(stub: Stub, engine: Engine) -> None:
    """Loading an adapter takes as long as the engine is busy, and no longer than it lives."""
    loading = asyncio.create_task(engine.load_adapter("a-0123456789abcdef", Path("/nowhere")))
    await asyncio.sleep(1)
    assert not loading.done()
    stub.hold, stub.steps = True, False
    await until_failed(engine)
    with pytest.raises(EngineFailed):
        await asyncio.wait_for(loading, 5)


# ---- an engine here: its processes


BUSY = """
import http.server, os, subprocess, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = b'{"choices": [{"logprobs": {"token_logprobs": [-0.1]}}]}'
        if self.path == "/v1/completions" and os.path.exists(sys.argv[2]):
            time.sleep(600)
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *_): pass
core = subprocess.Popen([sys.executable, "-c", "while True: pass"])
open(sys.argv[2] + ".pid", "w").write(str(core.pid))
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""A server with a core that computes; once the file in its second argument is there, no probe is answered."""


@pytest.fixture
async def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    def command(spec: EngineSpec, port: int) -> list[str]:
        return [sys.executable, "-c", BUSY, str(port), str(tmp_path / "hold")]

    monkeypatch.setattr(serve.engine.engine, "command", command)
    spec = EngineSpec(
        "busy",
        "b",
        "b",
        device="cpu",
        nice=15,
        probe_interval_s=0.5,
        probe_timeout_s=2.0,
        busy_timeout_s=10.0,
    )
    engine = Engine(spec, tmp_path)
    await engine.start()
    await engine.wait_ready(120)
    try:
        yield engine
    finally:
        await engine.stop()


async def test_an_engine_that_computes_is_not_restarted_until_busy_timeout(
    busy: Engine, tmp_path: Path
) -> None:
    assert busy.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, busy.pid) >= 15
    (tmp_path / "hold").touch()
    await asyncio.sleep(6)
    assert (busy.state, busy.boots) == ("ready", 1)
    assert "without finishing a step" in await until_failed(busy, 60)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_an_engine_whose_core_is_stopped_is_found_and_started_again(
    busy: Engine, tmp_path: Path
) -> None:
    core = int((tmp_path / "hold.pid").read_text())
    (tmp_path / "hold").touch()
    os.kill(core, signal.SIGSTOP)
    assert "no token, no step and no computing" in await until_failed(busy, 60)
    (tmp_path / "hold").unlink()
    await busy.wait_ready(120)
    assert busy.boots == 2
    # Killed with its family; who adopted it reaps it when it comes to that.
    async with asyncio.timeout(60):
        while is_alive(core):
            await asyncio.sleep(0.05)


async def test_a_start_that_computes_gets_more_time_than_one_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = {"computes": SPIN, "waits": "import time; time.sleep(600)"}
    failed = {}
    for name, code in codes.items():
        monkeypatch.setattr(
            serve.engine.engine, "command", lambda spec, port, code=code: [sys.executable, "-c", code]
        )
        spec = EngineSpec(name, "b", "b", device="cpu", start_timeout_s=1.0, busy_timeout_s=6.0)
        engine = Engine(spec, tmp_path)
        began = time.monotonic()
        await engine.start()
        await until_failed(engine, 60)
        failed[name] = time.monotonic() - began
        await engine.stop()
    assert failed["waits"] < 6 < failed["computes"]


def test_the_niceness_is_the_settings_or_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.engine.engine, "BEHIND_GATEWAY", 10)
    assert niceness(EngineSpec("e", "b", "m", device="cpu")) == 10
    assert niceness(EngineSpec("e", "b", "m", device="cuda")) == 0
    assert niceness(EngineSpec("e", "b", "m", device="cpu", nice=0)) == 0
