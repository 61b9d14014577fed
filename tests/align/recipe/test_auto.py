"""What "auto" means in a recipe: by the base's size, LoRA or QLoRA, and the rows of data."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from align.errors import ModelError
from align.recipe.auto import (
    Facts,
    count_parameters,
    count_steps,
    facts_of,
    notes,
    with_auto,
    with_balance,
)
from align.recipe.recipe import Recipe, cautions, names, resolve
from common.training_methods import METHODS, Method

SMALL, MIDDLE, LARGE, HUGE = 135_000_000, 3_200_000_000, 8_000_000_000, 65_000_000_000


def chosen(
    parameters: int,
    rows: int,
    method: str = "dpo",
    qlora: bool = False,
    start: int | None = None,
    **params: Any,
) -> Recipe:
    return with_auto(resolve(method, qlora, params), Facts(parameters, rows, start))


@pytest.mark.parametrize(
    ("method", "parameters", "rows", "rate"),
    [
        ("dpo", SMALL, 10, 2e-4), ("dpo", SMALL, 27, 2e-4), ("dpo", SMALL, 34, 1.6e-4), ("dpo", SMALL, 40, 1.4e-4),
        ("dpo", SMALL, 53, 1e-4), ("dpo", SMALL, 54, 1e-4), ("dpo", SMALL, 499, 1e-4), ("dpo", 1_100_000_000, 27, 1e-4),
        ("dpo", SMALL, 500, 5e-5), ("dpo", SMALL, 60_000, 2e-5),
        ("dpo", MIDDLE, 72, 5e-5), ("dpo", MIDDLE, 4_999, 2e-5), ("dpo", MIDDLE, 5_000, 1e-5),
        ("dpo", LARGE, 72, 2e-5), ("dpo", LARGE, 2_000, 1e-5), ("dpo", LARGE, 60_000, 5e-6),
        ("kto", SMALL, 72, 5e-5), ("kto", LARGE, 60_000, 2.5e-6),
        ("sft", SMALL, 72, 2e-4), ("sft", LARGE, 60_000, 2e-4), ("sft", HUGE, 72, 1e-4),
    ],
)  # fmt: skip
def test_the_rate_falls_with_size_and_rows(method: str, parameters: int, rows: int, rate: float) -> None:
    recipe = chosen(parameters, rows, method)
    assert recipe.learning_rate == pytest.approx(rate)
    assert recipe.origin["learning_rate"].startswith("auto: ")
    assert f"{rows} rows" in recipe.origin["learning_rate"]


@pytest.mark.parametrize(
    ("rows", "params", "warmup"),
    [(10, {}, 0.0), (72, {}, 0.1), (72, {"num_train_epochs": 1}, 0.0), (240, {"num_train_epochs": 1}, 0.1),
     (72, {"max_steps": 30}, 0.1), (10_000, {"max_steps": 20}, 0.0)],
)  # fmt: skip
def test_short_runs_have_no_warmup(rows: int, params: dict[str, Any], warmup: float) -> None:
    assert chosen(LARGE, rows, **params).warmup_steps == warmup


def test_few_rows_on_a_small_base_have_no_warmup_as_they_were_measured() -> None:
    assert [chosen(SMALL, rows).warmup_steps for rows in (27, 53, 54, 72)] == [0.0, 0.0, 0.1, 0.1]
    assert chosen(SMALL, 400, "kto").warmup_steps == 0.1


@pytest.mark.parametrize(
    ("parameters", "rows", "params", "beta"),
    [(SMALL, 72, {}, 0.1), (SMALL, 60_000, {}, 0.5), (LARGE, 60_000, {}, 0.1), (SMALL, 72, {"loss_type": "ipo"}, 1.0),
     (SMALL, 72, {"loss_type": ["ipo", "sft"]}, 1.0), (LARGE, 72, {"loss_type": "sigmoid_norm"}, 2.0),
     (SMALL, 72, {"loss_type": ["sigmoid", "sft"]}, 0.1)],
)  # fmt: skip
def test_beta_fits_the_loss(parameters: int, rows: int, params: dict[str, Any], beta: float) -> None:
    recipe = chosen(parameters, rows, **params)
    assert recipe.beta == beta
    assert cautions(recipe) == []


@pytest.mark.parametrize(
    ("parameters", "qlora", "params", "alpha"),
    [(SMALL, False, {}, 32), (SMALL, True, {}, 16), (LARGE, False, {"r": 64}, 64), (SMALL, False, {"r": 8}, 16),
     (SMALL, False, {"r": 64, "use_rslora": True}, 64)],
)  # fmt: skip
def test_alpha_follows_the_rank(parameters: int, qlora: bool, params: dict[str, Any], alpha: int) -> None:
    assert chosen(parameters, 72, qlora=qlora, **params).lora_alpha == alpha


def test_alpha_is_that_of_the_adapter_to_go_on_from() -> None:
    recipe = chosen(LARGE, 72, start=48)
    assert recipe.lora_alpha == 48
    assert "goes on from" in recipe.origin["lora_alpha"]


def test_the_passes_come_before_what_depends_on_the_steps() -> None:
    recipe = chosen(LARGE, 72)
    assert (recipe.num_train_epochs, recipe.origin["warmup_steps"]) == (5.0, "auto: 45 steps")
    chose = "num_train_epochs = 5, gradient_accumulation_steps = 2 (72 rows, 9 steps per pass)"
    assert chose in notes(recipe)
    assert not any("num_train_epochs" in note for note in notes(chosen(SMALL, 72, max_steps=3)))


def test_what_was_given_stays() -> None:
    given = {
        "num_train_epochs": 2,
        "gradient_accumulation_steps": 3,
        "learning_rate": 3e-4,
        "warmup_steps": 7,
        "beta": 0.3,
        "lora_alpha": 5,
    }
    recipe = chosen(LARGE, 72, **given)
    assert {name: recipe.values[name] for name in given} == given
    assert {recipe.origin[name] for name in given} == {"params"}
    assert notes(recipe) == []


@pytest.mark.parametrize("method", METHODS)
def test_nothing_stays_open_and_it_can_be_read_again(method: Method) -> None:
    recipe = with_balance(chosen(SMALL, 72, method), [(True, 3.0), (False, 1.0)])
    open_names = {name for name, value in recipe.values.items() if value == "auto"}
    assert open_names <= {"optim", "dtype", "gradient_checkpointing"}
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert any("learning_rate = " in note and "135M parameters, 72 rows" in note for note in notes(recipe))


@pytest.mark.parametrize("name", names())
def test_shipped_recipes_leave_to_auto_what_depends_on_the_base(name: str) -> None:
    from align.recipe.recipe import load

    method = load(name)[1]["method"]
    recipe = resolve(method, recipe=name)
    assert recipe.learning_rate == recipe.lora_alpha == recipe.warmup_steps == "auto"
    assert isinstance(with_auto(recipe, Facts(LARGE, 1_000)).learning_rate, float)


@pytest.mark.parametrize(
    ("liked", "disliked", "ratio"), [(100, 100, 1.0), (130, 100, 1.3), (300, 100, 4 / 3), (40, 200, 1.0)]
)
def test_likes_and_dislikes_are_balanced(liked: int, disliked: int, ratio: float) -> None:
    labels = [(True, 1.0)] * liked + [(False, 1.0)] * disliked
    recipe = with_balance(resolve("kto"), labels)
    likes, dislikes = recipe.desirable_weight * liked, recipe.undesirable_weight * disliked
    assert likes / dislikes == pytest.approx(ratio, rel=1e-3)
    assert likes + dislikes == pytest.approx(liked + disliked, rel=1e-3)
    assert f"{liked} liked, {disliked} disliked" in notes(recipe)[0]


def test_one_given_weight_stays_and_the_other_balances_it() -> None:
    labels = [(True, 1.0)] * 100 + [(False, 1.0)] * 300
    assert with_balance(resolve("kto", params={"undesirable_weight": 2}), labels).desirable_weight == 6.0
    assert with_balance(resolve("kto", params={"desirable_weight": 8}), labels).undesirable_weight == 2.0
    given = resolve("kto", params={"desirable_weight": 1, "undesirable_weight": 1})
    assert with_balance(given, labels) == given
    assert with_balance(resolve("dpo"), labels) == resolve("dpo")
    assert with_balance(resolve("kto", params={"desirable_weight": 0}), labels).undesirable_weight == 1.0


def test_steps() -> None:
    assert count_steps(resolve("dpo", params={"num_train_epochs": 1}), 72) == 18
    assert count_steps(resolve("dpo", params={"num_train_epochs": 1}), 720) == 90
    assert count_steps(resolve("dpo", params={"max_steps": 4}), 72) == 4
    assert count_steps(resolve("dpo", params={"num_processes": 2, "num_train_epochs": 2}), 73) == 20


def _weights(directory: Path, **shapes: list[int]) -> None:
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()
    }
    text = json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()
    (directory / f"{next(iter(shapes))}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)


def test_parameters_are_counted_from_the_weight_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights"):
        count_parameters(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 200)
    assert count_parameters(tmp_path) == 100
    _weights(tmp_path, a=[10, 20], b=[5])
    _weights(tmp_path, c=[3])
    assert count_parameters(tmp_path) == 208
    (tmp_path / "d.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be read"):
        count_parameters(tmp_path)


def test_without_weights_the_configuration_says_the_size(tmp_path: Path) -> None:
    shape = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 128256}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    assert 7e9 < count_parameters(tmp_path) < 10e9


def test_alpha_of_the_start_adapter_is_read(tmp_path: Path) -> None:
    _weights(tmp_path, a=[10])
    with pytest.raises(ModelError, match="start adapter"):
        facts_of(tmp_path, 5, tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 24}')
    assert facts_of(tmp_path, 5, tmp_path) == Facts(10, 5, 24)
