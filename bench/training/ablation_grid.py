"""Cells of bench/training/ablation.py: one thing is changed at a time, in order of what it decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from align.recipe.auto import Facts, with_auto
from align.recipe.recipe import resolve
from bench.training.cells import Cell
from bench.training.pair_making import ARMS

PARAMETERS = 134_515_008
SIZES = (27, 80)
"""Pairs to train on: what 80 prompts gave with a third held out, and three times as many."""
RATES = (1e-4, 2e-4, 4e-4, 3e-4, 5e-5, 2e-5, 5e-6)
LOSSES: tuple[Mapping[str, Any], ...] = (
    {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
    {"loss_type": ["apo_zero"]},
    {"loss_type": ["ipo"], "beta": 1.0},
    {"loss_type": ["ipo"], "beta": 0.5},
)
BETAS = (0.05, 0.2, 0.3, 0.5)


def passes(rows: int) -> dict[str, Any]:
    """Return what the default recipe takes as passes and accumulation for so many rows, without a warm-up."""
    recipe = with_auto(resolve("dpo"), Facts(PARAMETERS, rows))
    return {
        "num_train_epochs": recipe.num_train_epochs,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps,
        "warmup_steps": 0.0,
    }


def recipe_cells() -> list[Cell]:
    """Return the grid over the recipe: the default, then rates with alpha, passes, losses, betas, warm-up, other draws."""
    return list({cell.name: cell for cell in _cells()}.values())


def arm_cells(rate: float) -> list[Cell]:
    """Return the cells that differ in how pairs are made, at one rate, with two draws of the prompts."""
    found = []
    for draw in (0, 1):
        for rule, arms in (
            ("shorter", ARMS),
            ("instructions", ARMS[:-1]),
            ("no-comma", ("two", "best-worst-8", "off-policy")),
        ):
            found += [Cell(80, _at(80, learning_rate=rate), rule, arm, draw) for arm in arms]
    return found


def quick_cells(arms: bool) -> list[Cell]:
    """Return the cells of a dry run."""
    few = {"max_steps": 2, "learning_rate": 1e-3, "per_device_train_batch_size": 2}
    if arms:
        return [Cell(4, few, "no-comma", "off-policy"), Cell(4, few, "shorter", "best-low-8")]
    return [Cell(4, few)]


def _cells() -> Iterator[Cell]:
    yield from (Cell(rows, _at(rows, learning_rate=rate)) for rate in RATES[:3] for rows in SIZES)
    for rows in SIZES:
        for rate in (1e-4, 2e-4, 4e-4):
            usual = passes(rows)
            for factor in (2, 4, 0.5):
                many = max(1.0, round(usual["num_train_epochs"] * factor))
                yield Cell(rows, {**usual, "learning_rate": rate, "num_train_epochs": float(many)})
    for draw in (1, 2, 3):
        for rate in RATES[:3]:
            yield Cell(27, _at(27, learning_rate=rate), draw=draw)
    for rows in SIZES:
        yield from (Cell(rows, _at(rows, learning_rate=rate)) for rate in RATES[3:])
        yield from (Cell(rows, _at(rows, learning_rate=rate, lora_alpha=16)) for rate in RATES)
        for rate in (2e-4, 4e-4):
            yield from (Cell(rows, _at(rows, learning_rate=rate, beta=beta)) for beta in BETAS)
            yield from (Cell(rows, {**_at(rows, learning_rate=rate), **loss}) for loss in LOSSES)
        yield from (
            Cell(rows, _at(rows, learning_rate=rate, warmup_steps=0.1)) for rate in (1e-4, 2e-4, 4e-4)
        )
    yield from (Cell(160, _at(160, learning_rate=rate)) for rate in (5e-5, 1e-4, 2e-4, 4e-4))


def _at(rows: int, **params: Any) -> dict[str, Any]:
    return {**passes(rows), **params}
