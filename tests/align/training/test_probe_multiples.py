"""The probe at multiples of an adapter's scale: which, and that they are what PEFT computes for such an adapter."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from align.training.probe import load_adapter, logprobs, main
from align.training.probe_multiples import LAST_EFFECT, MAX_FACTOR, multiples
from common.sequences import mean_distance
from serve.adapters.effect import references
from serve.adapters.scaled_copy import write_scaled_copy
from store.values import Probe
from tests.support.models import make_lora, make_tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    patterns = {"alpha_pattern": {"q_proj": 2}, "use_rslora": True}
    return make_lora(tmp_path_factory.mktemp("loras") / "one", base, rank=4, scale=0.1, **patterns)


def test_each_multiple_is_what_peft_computes_for_an_adapter_of_such_a_scale(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "probe.json"
    assert main(["--model", str(base), "--adapter", str(adapter), "--out", str(out)]) == 0
    probe = Probe.from_json(json.loads(out.read_text()))
    found = references(probe)[0].multiples
    for factor in (2, 8):
        write_scaled_copy(adapter, tmp_path / f"x{factor}", factor)
        scaled = load_adapter(AutoModelForCausalLM.from_pretrained(base).eval(), tmp_path / f"x{factor}")
        assert logprobs(scaled, probe.token_ids) == pytest.approx(found[factor], abs=1e-4)


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (0.1, [2, 4, 8, 16, 32]),
        (0.01, [16, 32, 64]),
        (1e-4, [64]),
        (1.5, [2]),
        (0.0, []),
        (math.nan, []),
    ],
)
def test_multiples_double_from_an_effect_that_shows_to_a_large_one(
    effect: float, expected: list[int]
) -> None:
    def compute(factor: int) -> list[float]:
        return [-1.0 - effect * factor]

    found = multiples([-1.0], [-1.0 - effect], compute)
    assert list(found) == [f"adapter_x{factor}" for factor in expected]
    assert list(references(probe_of(effect, found))[0].multiples) == expected if expected else not found


def probe_of(effect: float, more: dict[str, list[float]]) -> Probe:
    return Probe((1, 2), {"base": [-1.0], "adapter": [-1.0 - effect], **more})


def test_a_multiple_that_overflows_is_left_out() -> None:
    values = {2: [-1.4], 4: [math.nan]}
    assert multiples([-1.0], [-1.2], values.__getitem__) == {"adapter_x2": [-1.4]}


def test_the_probe_of_a_qlora_adapter_holds_multiples_over_both_bases(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "probe.json"
    assert main(["--model", str(base), "--adapter", str(adapter), "--out", str(out), "--qlora"]) == 0
    pairs = references(Probe.from_json(json.loads(out.read_text())))
    assert len(pairs) == 2
    for pair in pairs:
        effects = [mean_distance(series, pair.base) for series in pair.multiples.values()]
        assert effects == sorted(effects)
        assert max(pair.multiples) == MAX_FACTOR or effects[-1] >= LAST_EFFECT
        assert all(effect < LAST_EFFECT for effect in effects[:-1])
