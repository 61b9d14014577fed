"""The suite on a real engine: what it measures is what our own scoring of the same models gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from align.evaluation.gate import Check, decide
from align.evaluation.suite import ChatApi, EvaluationError, run_suite
from align.training.model import load_tokenizer
from align.training.packed.packed_model import make_packed
from align.training.scoring import score_rows
from align.training.texts.data import read_rows
from serve.engine.engine import Engine
from tests.align.align_helpers import demonstrations, pairs, write_rows
from tests.serve.conftest import BASE
from tests.support.models import make_lora

pytestmark = [pytest.mark.anyio, pytest.mark.engine]


def own_scores(base: Path, adapter: Path | None, heldout: Path) -> list[list[float]]:
    rows, _ = read_rows(heldout, "dpo", load_tokenizer(str(base)), 1024)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    make_packed(model)
    if adapter:
        model = PeftModel.from_pretrained(model, str(adapter))
    scores = dict(score_rows(model.eval(), rows))
    return [scores[i] for i in range(len(rows))]


async def test_measures_of_a_release_are_what_its_model_scores(
    engine: Engine, tiny_base: Path, tmp_path: Path
) -> None:
    lora = make_lora(tmp_path / "lora", tiny_base, scale=0.1)
    heldout = write_rows(tmp_path / "heldout.parquet", pairs(10))
    seen: list[dict[str, Any]] = []
    await engine.load_adapter("a-new", lora)
    try:
        async with ChatApi(engine.url + "/v1", key=engine._key) as api:
            report = await run_suite(api, "a-new", BASE, heldout, "quick", seen.append)
            write_rows(heldout, demonstrations(4))
            alone = await run_suite(api, BASE, None, heldout, "quick")
            with pytest.raises(EvaluationError, match="no-such"):
                await run_suite(api, "no-such", None, heldout, "quick")
    finally:
        await engine.unload_adapter("a-new")
    assert seen[0]["done"] == 0
    assert seen[0]["seconds_left"] > 0
    assert seen[-1] == {"done": 78, "total": 78, "seconds_left": 0.0}  # 2 x (10 x 3 + 2 + 7)
    assert decide(report, [Check("preference_accuracy", min=0.0)]).passed
    assert report["measures"]["kl"]["release"]["low"] > 0
    assert report["measures"]["kl"]["release"]["n"] == report["measures"]["perplexity"]["against"]["n"] == 6
    write_rows(heldout, pairs(10))
    ours, theirs = own_scores(tiny_base, lora, heldout), own_scores(tiny_base, None, heldout)
    measures = report["measures"]
    wins = sum(c > r for c, r in ours) / 10
    assert measures["preference_accuracy"]["release"]["value"] == pytest.approx(wins)
    margins = [(a[0] - b[0]) - (a[1] - b[1]) for a, b in zip(ours, theirs, strict=True)]
    assert measures["reward_margin"]["release"]["value"] == pytest.approx(
        sum(margins) / 10, rel=1e-3, abs=1e-2
    )
    rows, _ = read_rows(heldout, "dpo", load_tokenizer(str(tiny_base)), 1024)
    losses = [-s[0] / len(row.tree.answers[0]) for s, row in zip(ours, rows, strict=True)]
    assert measures["loss"]["release"]["value"] == pytest.approx(sum(losses) / 10, abs=1e-3)
    assert measures["drift"]["release"]["value"] > 0.01
    assert measures["answer_tokens"]["release"]["n"] == measures["latency_s"]["against"]["n"] == 2
    assert set(alone["measures"]["loss"]) == {"release"}
    assert "preference_accuracy" not in alone["measures"]
