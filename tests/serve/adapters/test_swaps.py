"""No answer from the wrong adapter and no broken stream, whatever the operator does while people talk.

Random operations (publish, promote, canary, roll back, unload, withdraw, publish again) on a real engine with three times
as many adapters as fit in a batch, under clients that ask deployments, releases and the base. What each must answer is
known: PEFT computed it, greedily, token by token. In the middle the engine is killed with SIGKILL. A run is repeated with
the seed that a failure names: `SWAPS_SEED=… pytest tests/serve/adapters/test_swaps.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from serve.adapters.prune import needed
from serve.adapters.publishing import publish, withdraw
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.engine.stream_client import HttpStream, StreamBroken
from store.rollout import adapters, deployments, releases
from store.rollout.adapters import AdapterRecord
from tests.serve.conftest import BASE
from tests.serve.gateway_harness import KEY, Part, running
from tests.support.oracle import Answer, answers

pytestmark = [pytest.mark.anyio, pytest.mark.engine]
PROMPTS, TOKENS = ("Hello there", "What is a ship?"), 8
CLIENTS, OPERATIONS = 8, 30
LOST = {"engine_unavailable", "stream_broken", "engine_error"}  # what a killed engine's requests may end with


@dataclass
class World:
    """What is true now; `version` grows with every change of it."""

    part: Part
    loras: list[Path]
    told: list[dict[str, Answer]]
    rng: random.Random
    expected: dict[str, dict[str, Answer]]
    adapter_of: dict[str, int | None] = field(default_factory=lambda: {"assistant@1": None})
    names: dict[int, str] = field(default_factory=dict)
    here: set[int] = field(default_factory=set)
    allowed: set[str] = field(default_factory=lambda: {"assistant@1"})
    version: int = 0
    killed: bool = False
    over: bool = False
    seen: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    async def settle(self) -> None:
        """Route by the store; what a deployment may answer with is what it says now."""
        self.version += 1
        await self.part.reconciler.refresh()
        found = deployments.get(self.part.db, "assistant")
        refs = {r.id: r.ref for r in releases.list_all(self.part.db)}
        self.allowed = {refs[i] for i in (found.stable, found.canary) if i}
        self.version += 1

    def live(self) -> list[str]:
        """Releases that may take traffic: those whose adapter is here."""
        return [ref for ref, n in self.adapter_of.items() if n is None or n in self.here]


# ---- what the operator does


async def op_publish(world: World) -> None:
    n = world.rng.randrange(len(world.loras))
    done = await publish(world.loras[n], world.part.adapters_dir, world.part.pool, BASE)
    adapters.record(world.part.db, AdapterRecord(hash=done.name, base=BASE, path=str(done.path)))
    world.names[n] = done.name
    world.here.add(n)
    release = releases.create(world.part.db, "assistant", BASE, adapter=done.name)
    world.expected[release.ref] = world.told[n]
    await world.settle()
    world.adapter_of[release.ref] = n


async def op_promote(world: World) -> None:
    deployments.promote(world.part.db, "assistant", "test", world.rng.choice(world.live()))
    await world.settle()
    await world.part.reconciler.reconcile()


async def op_canary(world: World) -> None:
    found = deployments.get(world.part.db, "assistant")
    others = [ref for ref in world.live() if releases.get(world.part.db, ref).id != found.stable]
    if others:
        ref, weight = world.rng.choice(others), world.rng.choice((0.1, 0.5, 1.0))
        deployments.set_canary(world.part.db, "assistant", ref, weight)
        await world.settle()


async def op_rollback(world: World) -> None:
    found = deployments.get(world.part.db, "assistant")
    if found.canary or found.earlier:
        deployments.rollback(world.part.db, "assistant", "test")
        await world.settle()


async def op_unload(world: World) -> None:
    """As the reconciler does to what is over `max_cpu_loras`; the next request loads it again."""
    if world.here:
        name = world.names[world.rng.choice(sorted(world.here))]
        for engine in world.part.pool.engines(BASE):
            async with engine.in_flight.pause_adapter(name, 5, refuse=False):
                await engine.unload_adapter(name)


async def op_withdraw(world: World) -> None:
    spared = needed(world.part.db)
    loose = [n for n in sorted(world.here) if world.names[n] not in spared]
    if loose:
        n = world.rng.choice(loose)
        world.version += 1
        world.here.discard(n)
        await withdraw(world.names[n], world.part.pool, BASE, world.part.adapters_dir, 5)
        world.version += 1


OPS: list[tuple[Callable[[World], Coroutine[Any, Any, None]], int]] = [
    (op_publish, 4), (op_promote, 3), (op_canary, 3), (op_rollback, 2), (op_unload, 3), (op_withdraw, 3),
]  # fmt: skip


# ---- what people see


async def client(world: World, seed: int) -> None:
    rng, http = random.Random(seed), HttpStream(world.part.url, {"authorization": f"Bearer {KEY}"})
    while not world.over:
        prompt, stream = rng.choice(PROMPTS), rng.random() < 0.7
        model = rng.choice(["assistant", "assistant", BASE, rng.choice(list(world.adapter_of))])
        body = {
            "model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream, "store": False,
            "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True, "return_token_ids": True,
            "user": f"u{rng.randrange(50)}",
        }  # fmt: skip
        version, allowed, here = world.version, set(world.allowed), set(world.here)
        leaves = stream and rng.random() < 0.1
        try:
            gave, ids, error = await ask(http, body, leaves)
        except StreamBroken as broken:
            gave, ids, error = "", (), str(broken)
        calm = version == world.version
        if leaves:
            world.seen["left"] += 1
        elif error:
            judge_error(world, model, error, calm, here)
        else:
            judge(world, model, prompt, gave, ids, allowed if calm else None)
        if world.killed:
            await asyncio.sleep(0.25)
    http.close()


def judge(
    world: World, model: str, prompt: str, gave: str, ids: tuple[int, ...], allowed: set[str] | None
) -> None:
    world.seen[model if model in ("assistant", BASE) else "release"] += 1
    told, margin = world.expected[gave][prompt]
    if ids != told and margin > 1e-3:
        whose = [ref for ref, row in world.expected.items() if row[prompt][0] == ids]
        world.faults.append(f"{model} answered as {gave} and said {ids}, not {told}; that is {whose}")
    if model == "assistant" and allowed is not None and gave not in allowed:
        world.faults.append(f"{gave} answered for assistant, which routes to {sorted(allowed)}")
    if model not in ("assistant", gave):
        world.faults.append(f"{gave} answered for {model}")


def judge_error(world: World, model: str, error: str, calm: bool, here: set[int]) -> None:
    adapter = world.adapter_of.get(model)
    gone = adapter is not None and (adapter not in here or adapter not in world.here or not calm)
    if gone and error == "adapter_unavailable":
        world.seen["gone"] += 1
    elif world.killed and error in LOST:
        world.seen["lost with the engine"] += 1
    else:
        world.faults.append(f"{model}: {error}")


async def ask(http: HttpStream, body: dict[str, Any], leaves: bool) -> tuple[str, tuple[int, ...], str]:
    """Return who answered, the token ids, and the code of an error, if there is one."""
    connection = await http.post("/v1/chat/completions", json.dumps(body).encode())
    data = b""
    try:
        async for chunk in connection.chunks():
            data += chunk
            if leaves:
                connection.abort()
                return "", (), ""
    finally:
        http.release(connection)
    if connection.status != 200:
        return "", (), str(json.loads(data)["error"]["code"])
    if not body["stream"]:
        value = json.loads(data)
        return value["model"], tuple(value["choices"][0]["token_ids"]), ""
    events = [line[6:] for line in data.decode().splitlines() if line.startswith("data: ")]
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    if error := next((c["error"] for c in chunks if "error" in c), None):
        return "", (), str(error["code"])
    if events[-1:] != ["[DONE]"]:
        return "", (), "no [DONE]"
    return chunks[0]["model"], tuple(i for c in chunks for i in c["choices"][0].get("token_ids") or ()), ""


# ---- the test


async def operate(world: World, count: int) -> None:
    kinds, weights = zip(*OPS, strict=True)
    for kind in world.rng.choices(kinds, weights, k=count):
        await kind(world)
        await asyncio.sleep(world.rng.uniform(0, 0.15))


async def kill(world: World, engine: Engine) -> None:
    """SIGKILL under load; people wait or are told, and afterwards all is as before."""
    assert engine.pid is not None
    boots, world.killed = engine.boots, True
    environ = Path(f"/proc/{engine.pid}/environ").read_text().split("\0")
    scratch = Path(dict(entry.partition("=")[::2] for entry in environ)["TMPDIR"])
    assert any(path.is_socket() for path in scratch.iterdir())
    os.kill(engine.pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while engine.state == "ready" and time.monotonic() < end:
        await asyncio.sleep(0.02)
    await engine.wait_ready(500)
    assert engine.boots == boots + 1
    assert not scratch.exists(), "the sockets that vLLM leaves behind"
    assert world.part.reconciler.wanted(BASE) == [
        n for n in world.part.reconciler.wanted(BASE) if n in engine.loaded
    ]
    await asyncio.sleep(0.3)
    world.killed = False


async def test_no_answer_comes_from_the_wrong_adapter(
    pool: EnginePool, engine: Engine, loras: list[Path], tiny_base: Path, tmp_path: Path
) -> None:
    seed = int(os.environ.get("SWAPS_SEED", random.randrange(2**31)))
    told, own = await asyncio.to_thread(answers, tiny_base, loras, PROMPTS, TOKENS)
    by_prompt = [dict(zip(PROMPTS, row, strict=True)) for row in told]
    base = dict(zip(PROMPTS, own, strict=True))
    async with running(pool, tmp_path, BASE) as part:
        world = World(part, loras, by_prompt, random.Random(seed), {"assistant@1": base, BASE: base})
        boots = engine.boots
        clients = [asyncio.create_task(client(world, seed + n)) for n in range(CLIENTS)]
        await operate(world, OPERATIONS)
        assert engine.boots == boots, f"the engine ended by itself, seed {seed}: {engine.log_tail(30)}"
        await kill(world, engine)
        await operate(world, OPERATIONS // 2)
        world.over = True
        await asyncio.gather(*clients)
        assert engine.boots == boots + 1, f"the engine ended by itself, seed {seed}: {engine.log_tail(30)}"
        assert not world.faults, f"seed {seed}, {dict(world.seen)}: {world.faults[:5]}"
        assert min(world.seen[kind] for kind in ("assistant", "release", BASE)) > 20, f"{dict(world.seen)}"
        print(f"seed {seed}: {dict(world.seen)}")
        for n in world.here:
            await withdraw(world.names[n], pool, BASE, part.adapters_dir, 5)
