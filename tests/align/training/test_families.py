"""Each family of base models: a worker trains it, and what it writes passes the check of serving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from align_helpers import in_process, pairs, read_json
from transformers import AutoTokenizer

from align.recipe.shape import Shape
from align.run_directory import RunDirectory
from align.training.texts.chat_template import differences, render
from align.training.texts.data import read_rows
from align.training.trainable import examine
from serve.adapters.base_modules import read_base_modules
from serve.adapters.validation import check
from serve.engine.lora_targets import linear_modules
from tests.support.families import FAMILIES, make_family
from tests.support.models import read_config

families = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@families
def test_training_adapts_the_layers_that_the_engine_adapts(models: Path, name: str) -> None:
    model = make_family(models / name.replace(" ", "-"), name)
    base = read_base_modules(model)
    assert base is not None
    modules = examine(model)["modules"]
    assert Shape.read(model).layers == 2, "a run on it can be planned"
    assert modules
    assert all(base.find(module) for module in modules)
    assert {module.rpartition(".")[2] for module in modules} == set(linear_modules(model) or ())


@families
def test_a_family_is_trained_and_its_adapter_passes_the_check(
    make_run: Callable[..., RunDirectory], models: Path, name: str
) -> None:
    model = make_family(models / name.replace(" ", "-"), name)
    params = {"max_steps": 1, "max_length": 256, "per_device_train_batch_size": 2, "heldout_limit": 2}
    run = make_run("dpo", params, train=pairs(4), heldout=pairs(2, seed=1), model=model)
    assert in_process(run) == 0
    facts = check(run.path / "adapter", read_config(model), 64, model)
    assert not facts.is_zero
    assert set(facts.target_modules) == set(linear_modules(model) or ())
    probe = read_json(run.path / "probe.json")["logprobs"]
    assert probe["adapter"] != probe["base"]


@families
def test_an_answer_is_trained_after_the_prompt_as_it_is_served(
    make_run: Callable[..., RunDirectory], models: Path, name: str
) -> None:
    model = make_family(models / name.replace(" ", "-"), name)
    run = make_run("dpo", {}, train=pairs(3), model=model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows, dropped = read_rows(run.train, "dpo", tokenizer, 512)
    assert len(rows) == 3
    assert not dropped.refused_by_template
    for row, given in zip(rows, pairs(3), strict=True):
        prompt = render(tokenizer, given["prompt"], True)
        assert tokenizer.decode(row.tree.prompt) == prompt
        whole = tokenizer.decode([*row.tree.prompt, *row.tree.answers[0]])
        assert whole.startswith(prompt + given["chosen"])
        assert whole.removeprefix(prompt + given["chosen"]).startswith(FAMILIES[name].end)
    assert differences(tokenizer) == [] or name == "mistral"
