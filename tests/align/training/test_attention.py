"""Base models are computed as an engine computes them, whatever transformers takes by default."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.recipe.recipe import resolve
from align.training.attention import attention_arguments
from align.training.model import choose, load_base
from align.training.probe import logprobs, measure
from tests.support.families import make_family
from tests.support.models import make_lora

IDS = list(range(40, 140))


@pytest.fixture(scope="module")
def gemma2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family(tmp_path_factory.mktemp("families") / "gemma2", "gemma2")


def test_a_cap_on_attention_scores_counts_in_training_and_in_the_probe(gemma2: Path, tmp_path: Path) -> None:
    whole = AutoModelForCausalLM.from_pretrained(gemma2, dtype=torch.float32, attn_implementation="eager")
    default = AutoModelForCausalLM.from_pretrained(gemma2, dtype=torch.float32)
    wanted = logprobs(whole.eval(), IDS)
    assert logprobs(default.eval(), IDS) != pytest.approx(wanted, abs=1e-3), "the default passes over the cap"
    recipe = resolve("dpo", False, {})
    assert logprobs(load_base(str(gemma2), recipe, choose(recipe)).eval(), IDS) == pytest.approx(
        wanted, abs=1e-5
    )
    adapter = make_lora(tmp_path / "lora", gemma2, rank=4, scale=0.2)
    table, missing = measure(str(gemma2), adapter, IDS, recipe)
    assert not missing
    assert table["base"] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_other_models_keep_the_faster_attention(name: str, tmp_path: Path) -> None:
    assert attention_arguments(str(make_family(tmp_path / name, name))) == {}
