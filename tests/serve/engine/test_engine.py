"""A real vLLM under supervision: probe, adapters, faults in words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from serve.engine.engine import Engine
from serve.engine.spec import EngineSpec, command
from serve.errors import AdapterNotLoaded, EngineFailed
from tests.serve.conftest import BASE, tiny_spec

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


async def greedy(engine: Engine, model: str, prompt: str = "Hello", n: int = 12) -> str:
    answer = await engine.request(
        "POST",
        "/v1/completions",
        {"model": model, "prompt": prompt, "max_tokens": n, "temperature": 0, "ignore_eos": True},
    )
    return str(answer["choices"][0]["text"])


async def test_engine_serves_and_is_ready(engine: Engine) -> None:
    assert (engine.state, engine.spec.base) == ("ready", BASE)
    assert Path(f"/proc/{engine.pid}").exists()
    assert "vllm" in engine.log_tail(200).lower()
    await engine.probe(30)


async def test_the_key_is_needed_and_not_on_the_command_line(engine: Engine) -> None:
    import aiohttp

    async with (
        aiohttp.ClientSession() as anybody,
        anybody.get(engine.url + "/v1/models") as answer,
    ):
        assert answer.status == 401
    line = Path(f"/proc/{engine.pid}/cmdline").read_text()
    assert engine._key not in line
    assert "127.0.0.1" in line


async def test_adapters_load_answer_differently_and_unload(
    engine: Engine, loras: list[Path], adapter_names: list[str]
) -> None:
    name = adapter_names[0]
    await engine.load_adapter(name, loras[0])
    await engine.load_adapter(name, loras[0])  # again: no error
    assert (await engine.adapters())[name] == str(loras[0])
    assert await greedy(engine, name) != await greedy(engine, BASE)
    await engine.unload_adapter(name)
    await engine.unload_adapter(name)
    assert name not in await engine.adapters()


async def test_a_refused_adapter_leaves_the_engine_serving(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(AdapterNotLoaded) as caught:
        await engine.load_adapter("a-ffffffffffffffff", tmp_path / "nothing")
    assert caught.value.status == 404
    await engine.probe(30)


async def test_a_published_adapter_loads_on_demand(
    engine: Engine, loras: list[Path], adapter_names: list[str]
) -> None:
    name = adapter_names[1]
    (engine.adapters_dir / name).mkdir(parents=True)
    for file in loras[1].iterdir():
        (engine.adapters_dir / name / file.name).write_bytes(file.read_bytes())
    try:
        assert await greedy(engine, name) != await greedy(engine, BASE)
        assert name in await engine.adapters()
        with pytest.raises(EngineFailed) as caught:
            await greedy(engine, "a-0000000000000000")
        assert caught.value.status == 404
    finally:
        await engine.unload_adapter(name)


async def test_wrong_arguments_are_named(tiny_base: Path, tmp_path: Path) -> None:
    engine = Engine(tiny_spec(tiny_base, "wrong", args={"no-such-flag": 3}), tmp_path)
    await engine.start()
    try:
        deadline = time.monotonic() + 120
        while engine.state != "failed" and time.monotonic() < deadline:
            with pytest.raises(EngineFailed):
                await engine.wait_ready(1)
        assert "vLLM does not accept --no-such-flag" in engine.detail
        assert "next start in" in engine.detail
        assert "no-such-flag" in engine.log_tail(20)
    finally:
        await engine.stop()
    assert engine.state == "stopped"
    assert engine.pid is None


def test_settings_are_checked_by_name() -> None:
    with pytest.raises(ValueError, match=r"max_lora_rank is 4; accepted: 1, 8, 16"):
        EngineSpec("e", "b", "m", max_lora_rank=4)
    with pytest.raises(ValueError, match=r"max_cpu_loras is 2; accepted: max_loras \(4\) or more"):
        EngineSpec("e", "b", "m", max_cpu_loras=2)
    with pytest.raises(ValueError, match=r"args.max_loras is set by the platform"):
        EngineSpec("e", "b", "m", args={"max_loras": 2})


def test_arguments_pass_through() -> None:
    spec = EngineSpec(
        "e",
        "b",
        "m",
        device="cuda",
        args={
            "max_model_len": 512,
            "enforce-eager": True,
            "prefix-caching": False,
            "x": {"a": 1},
            "l": [1, 2],
        },
    )
    line = " ".join(command(spec, 80))
    for part in ("--max-model-len 512", "--enforce-eager", "--no-prefix-caching", '--x {"a": 1}', "--l 1 2"):
        assert part in line
    assert "--dtype" not in line
    assert "kv-cache" not in line
    cpu = " ".join(command(EngineSpec("e", "b", "m", device="cpu", args={"dtype": "bfloat16"}), 80))
    assert "--dtype bfloat16" in cpu
    assert "float32" not in cpu
    assert "--kv-cache-memory-bytes 512M" in cpu
