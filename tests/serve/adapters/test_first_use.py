"""The adapter that an engine on a card uses before it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.adapters import first_use
from serve.adapters.base_modules import read_base_modules
from serve.adapters.first_use import BATCHES, NAME, _use, warm_adapters, waves, write_zero_adapter
from serve.adapters.validation import check
from serve.engine.engine import Engine
from serve.engine.spec import EngineSpec
from tests.support.models import read_config


def test_the_adapter_is_zero_and_covers_all_that_the_engine_adapts(tiny_base: Path, tmp_path: Path) -> None:
    assert write_zero_adapter(tmp_path / NAME, tiny_base)
    facts = check(tmp_path / NAME, read_config(tiny_base), 16, tiny_base)
    assert facts.is_zero
    base = read_base_modules(tiny_base)
    assert base is not None
    assert len(base.inside) == 2 * 7


def test_a_model_without_readable_weights_is_left_alone(tmp_path: Path) -> None:
    assert not write_zero_adapter(tmp_path / NAME, tmp_path)
    assert not (tmp_path / NAME).exists()


def test_every_kind_of_sampling_is_tried_in_batches_of_every_size() -> None:
    seen = set()
    for wave in waves("tiny"):
        assert {body["model"] for body in wave} <= {NAME, "tiny"}
        kinds = {(body["temperature"] > 0, "top_p" in body, "top_k" in body) for body in wave}
        if "logprobs" not in wave[0] and "prompt_logprobs" not in wave[0]:
            seen |= {(len(wave), kind) for kind in kinds if len(kinds) == 1}
    kinds = {(False, False, False), (True, False, False), (True, True, False), (True, True, True)}
    assert seen == {(size, kind) for size in BATCHES for kind in kinds}


class Recorder(Engine):
    """An engine that records what is asked of it; `fails` is the path whose request fails."""

    def __init__(self, spec: EngineSpec, data_dir: Path, fails: str = "", status: int = 500) -> None:
        super().__init__(spec, data_dir)
        self.fails, self.status = fails, status
        self.asked: list[str] = []

    async def request(
        self, method: str, path: str, json: object = None, timeout: float | None = 60
    ) -> object:
        from serve.errors import EngineFailed

        self.asked.append(path)
        if path == self.fails:
            raise EngineFailed(self.spec.name, "no memory", self.status)
        return {}


@pytest.mark.anyio
@pytest.mark.parametrize(("device", "done"), [("cuda", True), ("cpu", False)])
async def test_engines_on_a_card_use_it_at_their_start(
    device: str, done: bool, tiny_base: Path, tmp_path: Path
) -> None:
    engine = Recorder(EngineSpec("e", "tiny", str(tiny_base), device=device), tmp_path)  # type: ignore[arg-type]
    assert await warm_adapters(engine) is done
    assert ("/v1/load_lora_adapter" in engine.asked) is done
    if done:
        assert engine.asked[-1] == "/v1/unload_lora_adapter"
    assert not engine.loaded


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v1/completions", "/v1/unload_lora_adapter"])
async def test_an_engine_that_refuses_it_serves_all_the_same(
    path: str, tiny_base: Path, tmp_path: Path
) -> None:
    engine = Recorder(EngineSpec("e", "tiny", str(tiny_base), device="cuda"), tmp_path, path)
    assert await warm_adapters(engine) is False
    assert (engine.asked[-1] == "/v1/unload_lora_adapter") is (path != "/v1/load_lora_adapter")


@pytest.mark.anyio
async def test_requests_that_an_engine_refuses_are_left_out(tiny_base: Path, tmp_path: Path) -> None:
    """A context shorter than the probe's window."""
    spec = EngineSpec("e", "tiny", str(tiny_base), device="cuda")
    engine = Recorder(spec, tmp_path, "/v1/completions", 400)
    assert await warm_adapters(engine) is True
    assert engine.asked.count("/v1/completions") == sum(len(wave) for wave in waves("tiny"))


@pytest.mark.anyio
@pytest.mark.engine
async def test_an_engine_accepts_it_and_keeps_nothing_of_it(
    engine: Engine, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_use, "BATCHES", (1, 3))
    before = await engine.adapters()
    assert write_zero_adapter(tmp_path / NAME, tiny_base)
    await _use(engine, tmp_path / NAME)
    assert await engine.adapters() == before
    await engine.probe(30)
