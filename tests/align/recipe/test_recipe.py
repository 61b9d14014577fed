"""Recipes: complete, checked, explained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from align.recipe.fields import FIELDS, RecipeFields, accepted
from align.recipe.plan import Rows, plan
from align.recipe.recipe import (
    Recipe,
    RecipeError,
    cautions,
    load,
    names,
    reference,
    resolve,
    with_flip_rate,
    with_passes,
)
from common.training_methods import METHODS, Method


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_complete_and_accepted(method: Method) -> None:
    recipe = resolve(method)
    assert set(recipe.origin.values()) == {"default"}
    # Every default passes its own check.
    assert resolve(method, params=recipe.to_dict()["params"]).values == recipe.values


def test_params_win_over_the_file_which_wins_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('method = "dpo"\nqlora = true\nbeta = 0.3\nr = 8\n')
    recipe = resolve("dpo", params={"r": 4}, recipe=file)
    assert (recipe.beta, recipe.r, recipe.lora_alpha, recipe.qlora) == (0.3, 4, "auto", True)
    assert [recipe.origin[k] for k in ("beta", "r", "lora_alpha")] == ["mine", "params", "default"]
    assert "beta" in recipe.explain()


def test_round_trip() -> None:
    recipe = resolve("dpo", True, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1, 0.2], "r": 8})
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"betta": 0.1}, "betta"),
        ({"beta": 0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"beta": "0.1"}, "beta"),
        ({"learning_rate": 2}, "learning_rate"),
        ({"r": 0}, "r"),
        ({"r": 1.5}, "r"),
        ({"r": True}, "r"),
        ({"r": "8"}, "r"),
        ({"packing": 1}, "packing"),
        ({"loss_weights": {}}, "loss_weights"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern"),
        ({"beta": 10**400}, "beta"),
        ({"r": 1024}, "r"),
        ({"max_steps": 0}, "max_steps"),
        ({"loss_type": "dpo"}, "loss_type"),
        ({"loss_type": []}, "loss_type"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1]}, "loss_weights"),
        ({"loss_type": "exo_pair"}, "label_smoothing"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"label_smoothing": "auto", "loss_type": ["sigmoid", "sft"]}, "label_smoothing"),
        ({"target_modules": ["lm_head"]}, "target_modules"),
        ({"target_modules": []}, "target_modules"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"report_to": ["printer"]}, "report_to"),
        ({"lr_scheduler_type": None}, "lr_scheduler_type"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_a_bad_value_names_field_value_and_what_is_accepted(params: dict[str, Any], field: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve("dpo", params=params)
    assert caught.value.field == field
    assert field in str(caught.value)
    assert caught.value.accepted in str(caught.value)


def test_accepted_values_are_described_from_the_bounds() -> None:
    assert accepted("max_steps") == "a whole number from 1 to 10000000 or -1"
    assert accepted("beta") == "'auto' or a number above 0 to 10"
    assert accepted("label_smoothing") == "'auto' or a number from 0 to below 0.5"
    assert accepted("gradient_checkpointing") == "'auto' or one of True, False"
    assert accepted("distributed") == "one of 'ddp', 'fsdp'"
    assert accepted("loss_weights").endswith("one for each loss_type, or unset")
    assert all(field.description and accepted(name) for name, field in FIELDS.items())
    assert RecipeFields().r == 16


@pytest.mark.parametrize(
    ("agreement", "rate", "said"),
    [
        ({"judged_twice": 100, "same": 0.82}, 0.1, "82%"),  # (1 - sqrt(0.64)) / 2
        ({"judged_twice": 100, "same": 0.68}, 0.2, "68%"),
        ({"judged_twice": 100, "same": 1.0}, 0.001, "100%"),
        ({"judged_twice": 100, "same": 0.4}, 0.45, "40%"),
        ({"judged_twice": 19, "same": 0.68}, 0.1, "assumed"),
        ({"judged_twice": 0, "same": None}, 0.1, "assumed"),
        (None, 0.1, "assumed"),
    ],
)
def test_the_flip_rate_comes_from_raters_agreement(
    agreement: dict[str, Any] | None, rate: float, said: str
) -> None:
    asked = resolve("dpo", recipe="thousands-of-pairs")
    assert asked.label_smoothing == "auto"
    found, note = with_flip_rate(asked, agreement)
    assert found.label_smoothing == pytest.approx(rate, abs=1e-4)
    assert found.origin["label_smoothing"] == "raters' agreement"
    assert said in note
    assert Recipe.from_dict(found.to_dict()) == found
    assert with_flip_rate(found, agreement) == (found, "")
    assert with_flip_rate(resolve("sft"), agreement)[1] == ""


@pytest.mark.parametrize(
    ("rows", "passes", "accumulation"),
    [(1, 5, 1), (32, 5, 1), (53, 3, 1), (57, 5, 2), (81, 4, 2), (160, 2, 2), (320, 1, 2), (100_000, 1, 2)],
)
def test_few_rows_are_passed_over_more_often_in_smaller_steps(
    rows: int, passes: int, accumulation: int
) -> None:
    """One pass over fifty pairs, eight per step, is seven steps, which teach nothing."""
    recipe, note = with_passes(resolve("dpo"), rows)
    assert (recipe.num_train_epochs, recipe.gradient_accumulation_steps) == (passes, accumulation)
    assert f"{rows} rows" in note
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    own = resolve("dpo", params={"num_train_epochs": 2, "gradient_accumulation_steps": 3})
    assert with_passes(own, rows) == (own, "")
    half, _ = with_passes(resolve("dpo", params={"num_train_epochs": 2}), rows)
    assert half.gradient_accumulation_steps == (2 if rows >= 160 else 1)


def test_settings_lie_between_the_default_and_the_recipe() -> None:
    settings = {"save_steps": 7}
    plain, small = resolve("dpo", settings=settings), resolve("dpo", recipe="65b-on-48gb", settings=settings)
    assert (plain.save_steps, plain.origin["save_steps"]) == (7, "settings")
    assert (small.save_steps, small.origin["save_steps"]) == (20, "65b-on-48gb")


def test_what_changes_nothing_is_accepted() -> None:
    resolve("dpo", params={"use_dora": False, "bias": "none", "modules_to_save": None})


def test_fields_of_another_method_are_refused() -> None:
    with pytest.raises(RecipeError, match="field of sft"):
        resolve("sft", params={"beta": 0.1})
    with pytest.raises(RecipeError, match="method"):
        resolve("ppo")


def test_a_recipe_for_another_method_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sft.toml"
    file.write_text('method = "sft"\n')
    with pytest.raises(RecipeError, match="for sft"):
        resolve("dpo", recipe=file)
    file.write_text("beta = \n")
    with pytest.raises(RecipeError, match="TOML"):
        resolve("dpo", recipe=file)
    with pytest.raises(RecipeError, match="exists"):
        resolve("dpo", recipe=tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="path"):
        resolve("dpo", recipe="no-such-recipe")


def test_every_recipe_file_resolves() -> None:
    found = names()
    assert len(found) >= 5
    folder = Path(__file__).parents[3] / "align" / "recipes"
    assert sorted(p.stem for p in folder.rglob("*.toml")) == found
    for name in found:
        _, table = load(name)
        recipe = resolve(table["method"], recipe=name)
        assert set(recipe.origin.values()) == {"default", name}
        head = (folder / f"{name}.toml").read_text().splitlines()[0]
        assert head.startswith("# "), f"{name} says in its first line what it is for"
        assert f"trimtab train {table['method']}" in (folder / f"{name}.toml").read_text()


def test_the_documented_table_is_the_code() -> None:
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    assert reference() in text, "run: make docs"


def test_the_platform_side_imports_no_torch() -> None:
    modules = "align.recipe.recipe, align.run_directory, align.evaluation.suite, align.evaluation.gate, "
    modules += "align.prepare, align.recipe.plan, align.report, align.worker"
    code = f"import sys, {modules}; print([m for m in ('torch', 'transformers', 'trl', 'peft') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"loss_type": ["ipo"], "beta": 0.1}, "ipo with beta = 0.1 aims at a difference of 5 nats"),
        ({"loss_type": ["sigmoid_norm"], "beta": 0.1}, "sigmoid_norm with beta = 0.1 hardly learns"),
        ({"loss_type": ["ipo"], "beta": 1.0}, None),
        ({"loss_type": ["sigmoid_norm"], "beta": 2.0}, None),
        ({"loss_type": ["ipo"]}, None),
        ({}, None),
    ],
)
def test_a_beta_that_does_not_fit_the_loss_is_warned_about_in_the_plan(
    tmp_path: Path, params: dict[str, Any], said: str | None
) -> None:
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
    }
    (tmp_path / "config.json").write_text(json.dumps(shape))
    recipe = resolve("dpo", params=params)
    notes = plan(tmp_path, recipe, Rows(10, 8, 8, 16)).notes
    assert [note for note in notes if "beta" in note] == cautions(recipe)
    assert any(said in note for note in notes) if said else not cautions(recipe)
    assert cautions(resolve("sft")) == []
