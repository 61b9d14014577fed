"""Faults of vLLM that the design works around, as they are in the pinned version.

Each test says what vLLM does today. When one fails after an upgrade, the fault is gone: write that down in
docs/serving.md, and keep the rule.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from serve.engine.engine import Engine
from serve.errors import EngineFailed
from tests.serve.conftest import BASE

pytestmark = [pytest.mark.anyio, pytest.mark.engine]
LONG = "All the world is a stage and all the men and women merely players. " * 6


async def ask(engine: Engine, model: str, prompt: str = LONG, tokens: int = 8) -> str:
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    return str((await engine.request("POST", "/v1/completions", body))["choices"][0]["text"])


async def load(engine: Engine, name: str, path: Path, **more: object) -> None:
    body = {"lora_name": name, "lora_path": str(path), **more}
    await engine.request("POST", "/v1/load_lora_adapter", body)


async def test_a_reused_name_answers_from_a_stale_cache(
    engine: Engine, loras: list[Path], tmp_path: Path
) -> None:
    """vLLM #30931: the prefix cache is keyed by adapter name and path, not by content."""
    path = Path(shutil.copytree(loras[8], tmp_path / "reused"))
    await load(engine, "reused", path)
    first = await ask(engine, "reused")
    await engine.unload_adapter("reused")
    shutil.copy(loras[9] / "adapter_model.safetensors", path)
    await load(engine, "reused", path)
    stale = await ask(engine, "reused")
    await load(engine, "never-used-before", Path(shutil.copytree(loras[9], tmp_path / "fresh")))
    right = await ask(engine, "never-used-before")
    await engine.unload_adapter("reused")
    await engine.unload_adapter("never-used-before")
    assert right != first
    assert stale != right, "the name was reused and the cache of the old weights was not"


async def streamed(engine: Engine, model: str, meanwhile: Callable[[], Awaitable[None]] | None = None) -> str:
    """Ask for a long answer in pieces, and do something once the first of them is there."""
    body = {
        "model": model, "prompt": "Once upon a time", "max_tokens": 400, "temperature": 0, "ignore_eos": True,
        "stream": True,
    }  # fmt: skip
    data = b""
    answer = await engine.post("/v1/completions", json.dumps(body).encode())
    async for chunk in answer.chunks():
        data += chunk
        if meanwhile is not None and b'"text"' in data:
            await meanwhile()
            meanwhile = None
    engine.release(answer)
    events = [
        line.removeprefix("data: ") for line in data.decode().split("\n\n") if line.startswith("data: {")
    ]
    return "".join(json.loads(event)["choices"][0]["text"] for event in events)


async def test_a_load_in_place_changes_answers_under_way(engine: Engine, loras: list[Path]) -> None:
    """vLLM #36373: the new weights take over a request in the middle of its answer; not each time, so a few are tried."""
    whole = []
    for name, path in (("inplace-old", loras[8]), ("inplace-new", loras[9])):
        await load(engine, name, path)
        whole.append(await streamed(engine, name))
        await engine.unload_adapter(name)
    assert whole[0] != whole[1]
    mixed = []
    while len(mixed) < 10 and all(answer in whole for answer in mixed):
        name = f"inplace-{len(mixed)}"
        await load(engine, name, loras[8])
        replace = partial(load, engine, name, loras[9], load_inplace=True)
        mixed.append(await streamed(engine, name, replace))
        await engine.unload_adapter(name)
    assert mixed[-1] not in whole, "an answer of two adapters"


async def test_unloading_frees_the_name_and_not_the_slot(engine: Engine, loras: list[Path]) -> None:
    """vLLM #54839: more loads than fit go on working, since the slots are a cache and not a reservation."""
    for n in range(3 * engine.spec.max_loras):
        await load(engine, f"slot-{n}", loras[n % len(loras)])
        await ask(engine, f"slot-{n}", "Hi", 2)
        await engine.unload_adapter(f"slot-{n}")
        with pytest.raises(EngineFailed) as caught:
            await ask(engine, f"slot-{n}", "Hi", 1)
        assert caught.value.status == 404
    assert not [name for name in await engine.adapters() if name.startswith("slot-")]


async def test_requests_outlive_the_unloading_of_their_adapter(engine: Engine, loras: list[Path]) -> None:
    await load(engine, "leaving", loras[10])
    whole = await streamed(engine, "leaving")
    assert await streamed(engine, "leaving", partial(engine.unload_adapter, "leaving")) == whole
    assert await streamed(engine, BASE) != whole
