"""Publishing on a real engine: what was made with PEFT is what is served, or nothing is."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from align.training.exports.export import export
from align.training.exports.job import ExportJob
from serve.adapters.parity import compare, measure
from serve.adapters.publishing import publish, withdraw
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.errors import AdapterRefused, EngineUnavailable, ParityFailed
from store.rollout import adapters, deployments, releases
from store.rollout.adapters import AdapterRecord
from store.values import Probe
from tests.serve.conftest import BASE, tiny_spec
from tests.serve.gateway_harness import Part, running
from tests.support.models import make_lora

pytestmark = [pytest.mark.anyio, pytest.mark.engine]
TOKENS = tuple(range(20, 60))


def logprobs(model: torch.nn.Module) -> list[float]:
    ids = torch.tensor([TOKENS])
    with torch.no_grad():
        scores = model(ids).logits[0, :-1].log_softmax(-1)
    return [float(x) for x in scores.gather(-1, ids[0, 1:, None])[:, 0]]


def probe_of(base: Path, adapter: Path) -> Probe:
    """PEFT's own numbers for the probe text."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    plain = logprobs(model)
    peft = PeftModel.from_pretrained(model, str(adapter)).eval()
    return Probe(TOKENS, {"base": plain, "adapter": logprobs(peft)})


@pytest.fixture(scope="module")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lora(tmp_path_factory.mktemp("pub") / "one", tiny_base, seed=41, rank=4, scale=0.3)


@pytest.fixture(scope="module")
def probe(tiny_base: Path, adapter: Path) -> Probe:
    return probe_of(tiny_base, adapter)


@pytest.fixture(scope="module")
async def part(pool: EnginePool, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Part]:
    await pool.engines(BASE)[0].wait_ready(500)
    async with running(pool, tmp_path_factory.mktemp("platform"), BASE) as part:
        yield part


def nothing_of(name: str, directory: Path) -> bool:
    return not any(name in path.name for path in directory.iterdir())


async def test_served_logprobs_equal_those_of_peft(part: Part, adapter: Path, probe: Probe) -> None:
    done = await publish(adapter, part.adapters_dir, part.pool, BASE, probe, 1e-3)
    assert done.parity is not None
    assert done.parity.ok
    assert done.parity.mean_abs < 1e-4
    assert done.parity.from_base is not None
    assert done.parity.from_base > 0.1, "the adapter changes something"
    assert done.path == (part.adapters_dir / done.name).absolute()
    assert sorted(p.name for p in done.path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert set(done.timings) == {"check", "place", "load", "warm", "parity"}
    again = await publish(adapter, part.adapters_dir, part.pool, BASE, probe, 1e-3)
    assert again.name == done.name

    adapters.record(part.db, AdapterRecord(hash=done.name, base=BASE, path=str(done.path)))
    release = releases.create(part.db, "assistant", BASE, adapter=done.name)
    deployments.promote(part.db, "assistant", "test", release.ref)
    await part.reconciler.refresh()
    body = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 12}
    tuned = await part.client.request("POST", "/v1/chat/completions", {**body, "model": "assistant"})
    plain = await part.client.request("POST", "/v1/chat/completions", {**body, "model": BASE})
    assert tuned["model"] == release.ref
    assert done.name not in json.dumps(tuned)
    assert tuned["choices"][0]["message"]["content"] != plain["choices"][0]["message"]["content"]

    deployments.rollback(part.db, "assistant", "test")
    await part.reconciler.refresh()
    back = await part.client.request("POST", "/v1/chat/completions", {**body, "model": "assistant"})
    assert back["choices"][0]["message"] == plain["choices"][0]["message"]
    await withdraw(done.name, part.pool, BASE, part.adapters_dir, 5)
    assert nothing_of(done.name, part.adapters_dir)
    await part.pool.engines(BASE)[0].probe(30)


async def test_an_exported_adapter_comes_in_again_with_equal_logprobs(
    part: Part, tiny_base: Path, adapter: Path, probe: Probe, tmp_path: Path
) -> None:
    known = await publish(adapter, part.adapters_dir, part.pool, BASE)
    out = tmp_path / "exported"
    job = ExportJob("peft", str(tiny_base), str(known.path), str(out), "assistant@2", "organisation/tiny")
    export(job, lambda done, doing: None)
    await withdraw(known.name, part.pool, BASE, part.adapters_dir, 5)
    again = await publish(out, part.adapters_dir, part.pool, BASE, probe, 1e-3)
    assert again.hash == known.hash
    assert again.parity is not None
    assert again.parity.mean_abs < 1e-4
    await withdraw(again.name, part.pool, BASE, part.adapters_dir, 5)


async def test_base_parity(engine: Engine, probe: Probe) -> None:
    served = await measure(engine, BASE, probe)
    assert compare(served, probe, 1e-3, adapter=False).mean_abs < 1e-4
    with pytest.raises(ValueError, match="no series"):
        compare(served[:-1], probe, 1e-3)


async def test_other_numbers_are_refused_and_nothing_stays(
    part: Part, engine: Engine, adapter: Path, probe: Probe
) -> None:
    before, before_loaded = sorted(part.adapters_dir.iterdir()), set(await engine.adapters())
    wrong = Probe(
        probe.token_ids, {**probe.logprobs, "adapter": [x - 0.5 for x in probe.logprobs["adapter"]]}
    )
    with pytest.raises(ParityFailed, match=r"differ by 0\.5 on average"):
        await publish(adapter, part.adapters_dir, part.pool, BASE, wrong, 1e-2)
    assert sorted(part.adapters_dir.iterdir()) == before
    assert before_loaded == set(await engine.adapters())


async def test_the_drift_of_a_qlora_adapter_is_bounded_by_a_setting(
    part: Part, adapter: Path, probe: Probe
) -> None:
    """`nf4_adapter` are PEFT's numbers over the 4-bit base that the adapter was trained on; here 0.2 nats away."""
    over_nf4 = [x - 0.2 for x in probe.logprobs["adapter"]]
    qlora = Probe(probe.token_ids, {**probe.logprobs, "nf4_adapter": over_nf4})
    before = sorted(part.adapters_dir.iterdir())
    with pytest.raises(
        ParityFailed, match=r"differ by 0\.2 .* accepted: up to 0\.1 \(training\.max_nf4_drift\)"
    ):
        await publish(adapter, part.adapters_dir, part.pool, BASE, qlora, 1e-3, 0.1)
    assert sorted(part.adapters_dir.iterdir()) == before
    done = await publish(adapter, part.adapters_dir, part.pool, BASE, qlora, 1e-3, 0.3)
    assert done.parity is not None
    assert done.parity.nf4_drift == pytest.approx(0.2)
    cost = done.parity.cost
    if cost is not None:  # it is unknown on a busy machine
        assert 0 < cost["base_ms"] < 1000
        assert cost["ratio"] == pytest.approx(cost["adapter_ms"] / cost["base_ms"], rel=0.01)
    await withdraw(done.name, part.pool, BASE, part.adapters_dir, 5)


async def test_a_bad_adapter_never_reaches_the_engine(
    part: Part, engine: Engine, adapter: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(adapter, tmp_path / "nan"))
    tensors = load_file(copy / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, copy / "adapter_model.safetensors")
    before = sorted(part.adapters_dir.iterdir())
    with pytest.raises(AdapterRefused, match="NaN"):
        await publish(copy, part.adapters_dir, part.pool, BASE)
    assert sorted(part.adapters_dir.iterdir()) == before
    await engine.probe(30)


async def test_adapter_rejected_by_the_engine_is_removed(
    part: Part, engine: Engine, tiny_base: Path, tmp_path: Path
) -> None:
    # Settings that this check does not read and vLLM does.
    odd = make_lora(tmp_path / "odd", tiny_base, seed=9, rank=4)
    settings = json.loads((odd / "adapter_config.json").read_text())
    (odd / "adapter_config.json").write_text(json.dumps({**settings, "r": 4, "alpha_pattern": {"(": 4}}))
    before = sorted(part.adapters_dir.iterdir())
    with pytest.raises(AdapterRefused, match="does not load it"):
        await publish(odd, part.adapters_dir, part.pool, BASE)
    assert sorted(part.adapters_dir.iterdir()) == before
    await engine.probe(30)


async def test_without_an_engine_nothing_is_placed(adapter: Path, tiny_base: Path, tmp_path: Path) -> None:
    idle = EnginePool([tiny_spec(tiny_base, "idle")], tmp_path)
    with pytest.raises(EngineUnavailable):
        await publish(adapter, tmp_path / "adapters", idle, BASE)
    assert not (tmp_path / "adapters").exists()
