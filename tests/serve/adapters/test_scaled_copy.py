"""Publishing on a base that differs from the trained one by more than the adapter does, on a real engine.

PEFT computes over weights rounded to 8 bits, the engine serves them as they are: the base differs by 0.2 nats per token, the
adapter does 0.1.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.training.probe import load_adapter, logprobs
from align.training.probe_multiples import multiples, scaled
from bench.serving.parity import alpha, change_weights, shuffled
from serve.adapters import scaled_copy
from serve.adapters.publishing import publish, withdraw
from serve.adapters.scaled_copy import PREFIX, scale_config, write_scaled_copy
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.errors import EngineFailed, ParityFailed
from store.values import Probe
from tests.serve.conftest import BASE
from tests.serve.gateway_harness import Part, running
from tests.support.models import make_lora

pytestmark = [pytest.mark.anyio, pytest.mark.engine]
TOKENS = tuple(torch.randint(20, 250, (300,), generator=torch.Generator().manual_seed(3)).tolist())


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lora(tmp_path_factory.mktemp("small") / "one", tiny_base, seed=41, rank=4, scale=0.1)


def probe_over(base: Path, adapter: Path, change: Callable[[torch.nn.Linear], None]) -> Probe:
    """What PEFT computes over a base whose linear layers were changed."""
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.Linear):
            change(module)
    before = logprobs(plain, TOKENS)
    tuned = load_adapter(plain, adapter)
    after = logprobs(tuned, TOKENS)

    def at(factor: int) -> list[float]:
        with scaled(tuned, factor):
            return logprobs(tuned, TOKENS)

    return Probe(TOKENS, {"base": before, "adapter": after, **multiples(before, after, at)})


def round_to_8_bits(module: torch.nn.Linear) -> None:
    scale = module.weight.data.abs().amax(1, keepdim=True) / 127
    module.weight.data = (module.weight.data / scale).round() * scale


@pytest.fixture(scope="module")
def probe(tiny_base: Path, adapter: Path) -> Probe:
    return probe_over(tiny_base, adapter, round_to_8_bits)


@pytest.fixture(scope="module")
async def part(pool: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Part]:
    await pool.engines(BASE)[0].wait_ready(500)
    async with running(pool, tmp_path_factory.mktemp("platform"), BASE) as part:
        yield part


@pytest.fixture
async def unchanged(part: Part, engine: Engine) -> AsyncIterator[None]:
    """Adapters and directories are afterwards what they were before."""
    before = sorted(part.adapters_dir.iterdir()), await engine.adapters()
    yield
    assert (sorted(part.adapters_dir.iterdir()), await engine.adapters()) == before
    assert not [name for name in engine.in_flight.by_adapter if name.startswith(PREFIX)]
    await engine.probe(30)


def names_loaded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that the engine loads from now on."""
    names: list[str] = []
    load = engine.load_adapter

    async def noted(name: str, path: Path) -> None:
        names.append(name)
        await load(name, path)

    monkeypatch.setattr(engine, "load_adapter", noted)
    return names


@pytest.mark.usefixtures("unchanged")
async def test_a_small_adapter_is_compared_at_a_multiple_of_its_scale(
    part: Part, engine: Engine, adapter: Path, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = names_loaded(engine, monkeypatch)
    done = await publish(adapter, part.adapters_dir, part.pool, BASE, probe)
    assert done.parity is not None
    assert not done.parity.is_shown
    found = done.parity.at_multiple
    assert found is not None
    assert found["effect"] > 2 * (done.parity.base_mean_abs or 1)
    assert found["effect_ratio"] == pytest.approx(1, abs=0.25)
    assert f"compared at {found['factor']:g} times its scale" in str(done.parity.note)
    assert [name == done.name or name.startswith(PREFIX) for name in names] == [True, True]
    assert set(await engine.adapters()) >= {done.name}
    assert not any(name.startswith(PREFIX) for name in await engine.adapters())
    assert not list(part.adapters_dir.glob(".*"))
    await withdraw(done.name, part.pool, BASE, part.adapters_dir, 5)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (alpha(0.5), "times what it did in training"),
        (alpha(2), r"compared at \d+ times its scale"),
        (change_weights(shuffled), r"compared at \d+ times its scale"),
        (change_weights(lambda name, tensor: tensor * 1e-3), "times what it did in training"),
    ],
    ids=["alpha halved", "alpha doubled", "another seed", "not applied"],
)
async def test_a_coarse_fault_of_a_small_adapter_is_refused(
    change: Callable[[Path, Path], None], why: str, part: Part, adapter: Path, probe: Probe, tmp_path: Path
) -> None:
    change(adapter, tmp_path / "wrong")
    with pytest.raises(ParityFailed, match=why) as refused:
        await publish(tmp_path / "wrong", part.adapters_dir, part.pool, BASE, probe)
    assert "training.parity_tolerance" in str(refused.value)


@pytest.mark.usefixtures("unchanged")
async def test_an_adapter_that_stands_out_is_loaded_once(
    part: Part, engine: Engine, tiny_base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = probe_over(tiny_base, adapter, lambda module: None)
    names = names_loaded(engine, monkeypatch)
    done = await publish(adapter, part.adapters_dir, part.pool, BASE, same)
    assert done.parity is not None
    assert (done.parity.is_shown, done.parity.at_multiple) == (True, None)
    assert names == [done.name]
    await withdraw(done.name, part.pool, BASE, part.adapters_dir, 5)


@pytest.mark.usefixtures("unchanged")
async def test_a_probe_without_multiples_is_published_with_a_note(
    part: Part, adapter: Path, probe: Probe
) -> None:
    old = Probe(probe.token_ids, {name: probe.logprobs[name] for name in ("base", "adapter")})
    done = await publish(adapter, part.adapters_dir, part.pool, BASE, old)
    assert done.parity is not None
    assert done.parity.at_multiple is None
    assert "cannot show whether it is applied" in str(done.parity.note)
    await withdraw(done.name, part.pool, BASE, part.adapters_dir, 5)


@pytest.mark.usefixtures("unchanged")
async def test_a_publishing_that_is_cancelled_leaves_no_copy(
    part: Part, adapter: Path, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = asyncio.Event()

    async def waiting(engine: Engine, name: str, probe: Probe) -> list[float]:
        assert name in await engine.adapters()
        loaded.set()
        return await asyncio.Future()

    monkeypatch.setattr(scaled_copy, "measure", waiting)
    publishing = asyncio.create_task(publish(adapter, part.adapters_dir, part.pool, BASE, probe))
    await loaded.wait()
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing


@pytest.mark.usefixtures("unchanged")
async def test_a_copy_that_the_engine_cannot_compute_with_refuses_nothing(
    part: Part, adapter: Path, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(engine: Engine, name: str, probe: Probe) -> Sequence[float]:
        assert name in await engine.adapters()
        raise EngineFailed(engine.spec.name, "an overflow", 500)

    monkeypatch.setattr(scaled_copy, "measure", failing)
    done = await publish(adapter, part.adapters_dir, part.pool, BASE, probe)
    assert done.parity is not None
    assert "could not be compared: " in str(done.parity.note)
    assert done.parity.at_multiple is None
    await withdraw(done.name, part.pool, BASE, part.adapters_dir, 5)


@pytest.mark.usefixtures("unchanged")
async def test_a_copy_that_a_killed_platform_left_on_an_engine_is_unloaded(
    part: Part, engine: Engine, adapter: Path, tmp_path: Path
) -> None:
    write_scaled_copy(adapter, tmp_path / "copy", 4)
    await engine.load_adapter(f"{PREFIX}left", tmp_path / "copy")
    assert f"{PREFIX}left" in await engine.adapters()
    assert await part.reconciler.reconcile() == []


def test_a_copy_has_the_weights_and_a_multiple_of_every_scale(adapter: Path, tmp_path: Path) -> None:
    settings = json.loads((adapter / "adapter_config.json").read_text())
    write_scaled_copy(adapter, tmp_path / "copy", 4)
    copy = json.loads((tmp_path / "copy" / "adapter_config.json").read_text())
    assert copy == {**settings, "lora_alpha": 4 * settings["lora_alpha"]}
    weights = [(path / "adapter_model.safetensors").read_bytes() for path in (adapter, tmp_path / "copy")]
    assert weights[0] == weights[1]
    assert json.loads((adapter / "adapter_config.json").read_text()) == settings
    patterns = {"lora_alpha": 8, "alpha_pattern": {"q_proj": 2}, "use_rslora": True}
    assert scale_config(patterns, 4) == {
        "lora_alpha": 32,
        "alpha_pattern": {"q_proj": 8},
        "use_rslora": True,
    }
