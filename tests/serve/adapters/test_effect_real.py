"""Parity of a real adapter in bfloat16: the probe computed in it, what is served in float32, so with real noise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from align.training.probe import logprobs, main
from bench.serving.parity import wrongs
from serve.adapters.parity import Parity, judge
from store.values import Probe
from tests.support.models import make_lora, make_tiny_base

# The noise of this base is 0.13 nats, of trained models 0.05: a scale off by a tenth is below what it can show.
CASES = [case for case in ("honest", *wrongs(2)) if "10 %" not in case]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parity]:
    root = tmp_path_factory.mktemp("parity")
    base = make_tiny_base(root / "tiny")
    honest = make_lora(root / "honest", base, rank=4, scale=0.2)
    out = root / "probe.json"
    assert (
        main(["--model", str(base), "--adapter", str(honest), "--out", str(out), "--dtype", "bfloat16"]) == 0
    )
    probe = Probe.from_json(json.loads(out.read_text()))
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    served_base = logprobs(plain, probe.token_ids)
    found = {}
    for case, change in {"honest": None, **wrongs(2)}.items():
        path: Path = honest
        if change is not None:
            path = root / case.replace(" ", "-").replace("%", "")
            change(honest, path)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(path)).eval()
        found[case] = judge(logprobs(model, probe.token_ids), served_base, probe)
        print(case, found[case])
    return found


@pytest.mark.parametrize("case", CASES)
def test_parity_distinguishes_honest_and_wrong_adapters(case: str, verdicts: dict[str, Parity]) -> None:
    parity = verdicts[case]
    assert parity.base_mean_abs is not None
    assert parity.base_mean_abs > 0.005, "bfloat16 is less exact than float32"
    assert parity.ok == (case == "honest"), parity
