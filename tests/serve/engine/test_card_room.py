"""An engine on a card makes room for a run and takes it back, also where something fails meanwhile.

Real processes; a stand-in for vLLM, whose engine on the CPU has no memory of a card to give up.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import serve.engine.engine
from common.gpu_cards import Card
from serve.engine.cards import card_room
from serve.engine.cards.gpu_memory import RESERVED_TOKENS
from serve.engine.cards.placement import Cards
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.engine.spec import EngineSpec, command
from serve.errors import EngineFailed, EngineUnavailable
from serve.vllm_plugin.sleep_routes import SLEEP, WAKE, SleepRoutes
from tests.support.fake_cards import card

pytestmark = pytest.mark.anyio
PROCESS = Path(__file__).parents[2] / "support" / "fake_engine_process.py"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
    config["max_position_embeddings"] = 512
    (model / "config.json").write_text(json.dumps(config))
    save_file({"embed": np.zeros((100, 64), np.float32)}, model / "model.safetensors")
    return model


@pytest.fixture
async def pool(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EnginePool]:
    """One engine on a card, serving; `starts` in the directory has the command line of each start."""

    def start(spec: EngineSpec, port: int) -> list[str]:
        line = " ".join(command(spec, port))
        with (tmp_path / "starts").open("a") as file:
            file.write(line + "\n")
        if (tmp_path / "refuse-small").exists() and str(kv_bytes(8192)) in line.split():
            return [sys.executable, "-c", "raise SystemExit('too small a cache')"]
        return [sys.executable, str(PROCESS), str(port), str(tmp_path)]

    def read() -> list[Card]:
        return [card(free=80 if (tmp_path / "asleep").exists() else 60)]

    monkeypatch.setattr(serve.engine.engine, "command", start)
    monkeypatch.setattr(serve.engine.engine, "BACKOFF_S", (0.1,))
    spec = EngineSpec("main", "base", str(model_dir), device="cuda", probe_interval_s=0.2)
    pool = EnginePool([spec], tmp_path)
    pool.cards = pool.engines()[0].cards = Cards(read)
    pool.cards.can_sleep = True
    await pool.start()
    await pool.engines()[0].wait_ready(60)
    yield pool
    await pool.stop()


def kv_bytes(tokens: int) -> int:
    """The cache of the fixture's model."""
    return (tokens + RESERVED_TOKENS) * 2 * 2 * 4 * 16 * 2


@pytest.fixture
def engine(pool: EnginePool) -> Engine:
    return pool.engines()[0]


def starts(tmp_path: Path) -> list[str]:
    return (tmp_path / "starts").read_text().splitlines()


async def test_a_sleeping_engine_answers_nothing_and_serves_again_from_the_same_process(
    pool: EnginePool, engine: Engine, tmp_path: Path
) -> None:
    pid = engine.pid
    await card_room.sleep(engine)
    assert (tmp_path / "asleep").exists()
    with pytest.raises(EngineUnavailable, match="main is sleeping: asleep while a run trains") as caught:
        pool.pick("base")
    assert caught.value.retry_after_s > 0
    await asyncio.sleep(0.7)  # longer than probes are apart
    assert engine.state == "sleeping"
    await card_room.wake(engine)
    assert (engine.state, engine.pid, engine.boots) == ("ready", pid, 1)
    assert not (tmp_path / "asleep").exists()


async def test_an_engine_that_cannot_sleep_serves_on(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "refuse-sleep").touch()
    with pytest.raises(EngineFailed):
        await card_room.sleep(engine)
    assert (engine.state, engine.boots) == ("ready", 1)


async def test_an_engine_that_does_not_wake_is_started_again(engine: Engine, tmp_path: Path) -> None:
    await card_room.sleep(engine)
    (tmp_path / "refuse-wake").touch()
    await card_room.wake(engine)
    await engine.wait_ready(60)
    assert engine.boots == 2


async def test_an_engine_that_is_killed_asleep_is_started_again(engine: Engine) -> None:
    await card_room.sleep(engine)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    await engine.wait_ready(60)
    await card_room.wake(engine)  # what the run's end does: nothing to do
    assert (engine.state, engine.boots) == ("ready", 2)


async def test_a_shrunk_engine_serves_with_the_least_cache_until_it_grows(
    engine: Engine, tmp_path: Path
) -> None:
    await card_room.shrink(engine)
    assert (engine.state, engine.boots) == ("ready", 2)
    await card_room.grow(engine)
    await engine.wait_ready(60)
    sizes = [line.split("--kv-cache-memory-bytes ")[1].split()[0] for line in starts(tmp_path)]
    assert sizes == [str(kv_bytes(n)) for n in (131_072, 8192, 131_072)]


async def test_an_engine_that_does_not_start_with_less_serves_with_its_whole_cache(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "refuse-small").touch()
    with pytest.raises(EngineFailed, match="did not start with a smaller cache"):
        await card_room.shrink(engine)
    assert (engine.state, engine.boots) == ("ready", 3)
    await card_room.grow(engine)  # what the run's end does: nothing to do
    assert (engine.state, engine.boots) == ("ready", 3)


async def test_only_engines_that_may_sleep_are_started_for_it(engine: Engine, tmp_path: Path) -> None:
    for part in ("--enable-sleep-mode", "--middleware serve.vllm_plugin.sleep_routes.SleepRoutes"):
        assert part in starts(tmp_path)[0]
    assert "sleep" not in " ".join(command(EngineSpec("e", "b", "m", device="cuda"), 80))
    assert "sleep" not in " ".join(command(EngineSpec("e", "b", "m", device="cpu", can_sleep=True), 80))


# ---- inside vLLM's server


class Client:
    """vLLM's engine client, as far as the routes use it."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    async def sleep(self, level: int, mode: str) -> None:
        self.calls.append(("sleep", level, mode))

    async def wake_up(self, tags: list[str] | None) -> None:
        raise RuntimeError("out of memory")


async def test_the_routes_ask_for_the_key_and_answer_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def models(request: Request) -> JSONResponse:
        return JSONResponse({"data": []})

    monkeypatch.setenv("VLLM_API_KEY", "secret")
    app = Starlette(routes=[Route("/v1/models", models)])
    app.add_middleware(SleepRoutes)
    app.state.engine_client = client = Client()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as http:
        for key in ("", "Bearer wrong"):
            assert (await http.post(SLEEP, headers={"authorization": key})).status_code == 401
        assert client.calls == []
        allowed = {"authorization": "Bearer secret"}
        assert (await http.post(SLEEP, headers=allowed)).json() == {"sleeping": True}
        assert client.calls == [("sleep", 1, "wait")]
        refused = await http.post(WAKE, headers=allowed)
        assert (refused.status_code, "out of memory" in refused.text) == (500, True)
        assert (await http.get("/v1/models")).status_code == 200
        assert (await http.get(SLEEP, headers=allowed)).status_code == 404
    assert (SLEEP, WAKE) == (card_room.SLEEP_ROUTE, card_room.WAKE_ROUTE)
