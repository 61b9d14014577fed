"""Values of a recipe that are "auto": by the base's parameters, LoRA or QLoRA, and the rows to train on.

They begin from published recipes, and from bench/training/ablation.py for the smallest. alignment-handbook trains
Zephyr-7B with QLoRA at a rate of 5e-6, alpha = r and a warm-up of a tenth on 60,000 pairs, and all weights of SmolLM2-135M
and 360M at 1e-6 with beta 0.5; LoRA takes about ten times the rate of training all weights. QLoRA (2305.14314) takes 2e-4
for SFT up to 13B and 1e-4 above. Fewer rows are fewer steps, each of which has to move more. Imports no torch.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from align.errors import ModelError
from align.recipe.recipe import Recipe, with_passes

AUTO = "auto"
ORIGIN = "auto: "
"""How the origin of a value that was chosen here begins."""
BALANCE = (1.0, 4 / 3)
"""Accepted desirable_weight x liked over undesirable_weight x disliked (2402.01306)."""

# Parameters up to which a column of rates holds, and rows below which a rate of it does.
_SIZES = (2e9, 5e9, math.inf)
_ROWS = (500, 5_000, math.inf)
_DPO_RATES = ((1e-4, 5e-5, 2e-5), (5e-5, 2e-5, 1e-5), (2e-5, 1e-5, 5e-6))
_SFT_SIZE, _SFT_RATES = 15e9, (2e-4, 1e-4)
# DPO on the smallest bases and a few dozen rows, measured by bench/training/ablation.py with 27: half of this rate teaches
# too little in 35 steps, twice as much moves neutral texts beyond what the default gate accepts. More rows are more steps,
# which move as far in all at a rate that is less by as much: with 34 the same rate went beyond the gate. These runs had no
# warm-up.
_SMALLEST, _MEASURED_ROWS, _MEASURED_RATE = 5e8, 27, 2e-4
# A shorter run would lose a step or two of few: the first step of a warm-up has a rate of zero.
_MIN_WARMUP_STEPS = 30
_WARMUP = 0.1
# What a loss that counts log ratios per token needs: see `align.recipe.recipe.cautions`.
_BETAS = {"ipo": 1.0, "sigmoid_norm": 2.0}


@dataclass(frozen=True)
class Facts:
    """What "auto" depends on: parameters of the base, rows to train on, and alpha of the adapter to go on from."""

    parameters: int
    rows: int
    start_alpha: int | None = None


def facts_of(base_model: str | Path, rows: int, start_adapter: str | Path | None = None) -> Facts:
    """Read the facts of a run. Raises `ModelError` when the base has no weights or the adapter no configuration."""
    alpha = None
    if start_adapter is not None:
        try:
            config = json.loads((Path(start_adapter) / "adapter_config.json").read_text())
            alpha = int(config["lora_alpha"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"the start adapter {start_adapter} cannot be read: {error!r}") from error
    return Facts(count_parameters(Path(base_model)), rows, alpha)


def count_parameters(directory: Path) -> int:
    """Return the parameters of a model directory, from the headers of its weight files.

    Without weight files they are estimated from the configuration. Raises `ModelError`.
    """
    try:
        files = sorted(directory.glob("*.safetensors"))
        total = sum(_count(file) for file in files)
        # Other formats have no header to read: two bytes per parameter.
        total = total or sum(file.stat().st_size // 2 for file in directory.glob("*.bin"))
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise ModelError(f"the weights in {directory} cannot be read: {error}") from error
    return total or _estimate(directory)


def _estimate(directory: Path) -> int:
    """Return the parameters that a configuration of the Llama family describes. Raises `ModelError`."""
    try:
        config = json.loads((directory / "config.json").read_text())
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        # Attention has up to four square matrices, the MLP three.
        layer = 4 * hidden * hidden + 3 * hidden * int(config["intermediate_size"])
        return layers * layer + 2 * hidden * int(config["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{directory} has no weights to count and no configuration ({error!r})") from error


def _count(file: Path) -> int:
    """Return the numbers in a safetensors file."""
    with file.open("rb") as source:
        (size,) = struct.unpack("<Q", source.read(8))
        header = json.loads(source.read(size))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def count_steps(recipe: Recipe, rows: int) -> int:
    """Return the optimiser steps of a run over `rows` rows."""
    if recipe.max_steps > 0:
        return int(recipe.max_steps)
    recipe, _ = with_passes(recipe, rows)
    batch = recipe.per_device_train_batch_size * recipe.num_processes
    per_epoch = math.ceil(math.ceil(rows / batch) / recipe.gradient_accumulation_steps)
    return max(1, math.ceil(per_epoch * recipe.num_train_epochs))


def with_auto(recipe: Recipe, facts: Facts) -> Recipe:
    """Return the recipe with its passes, rate, warm-up, beta and alpha chosen where they are "auto"."""
    recipe, _ = with_passes(recipe, facts.rows)
    chosen: dict[str, tuple[Any, str]] = {
        "learning_rate": _rate(recipe, facts),
        "warmup_steps": _warmup(recipe, facts),
        "beta": _beta(recipe, facts),
        "lora_alpha": _alpha(recipe, facts),
    }
    return _chosen(recipe, chosen)


def with_balance(recipe: Recipe, labels: Iterable[tuple[bool, float]]) -> Recipe:
    """Return the recipe with the weights of liked and disliked rows chosen where they are "auto".

    `labels` are label and weight of each row. The weighted sides then have a ratio within `BALANCE`, and the rows a mean
    weight of one if both were "auto". Rows of one label alone change nothing.
    """
    sides = [0.0, 0.0]
    for liked, weight in labels:
        sides[0 if liked else 1] += weight
    given = [recipe.values.get(name) for name in ("desirable_weight", "undesirable_weight")]
    if AUTO not in given or not all(sides):
        return recipe
    factors = [1.0 if value == AUTO else float(value) for value in given]  # type: ignore[arg-type]
    if not all(factors):  # one side was switched off: there is no balance to keep
        return _weights(recipe, factors, "a weight of 0 has no balance")
    have = factors[0] * sides[0] / (factors[1] * sides[1])
    wanted = min(max(have, BALANCE[0]), BALANCE[1])
    if given == [AUTO, AUTO]:
        unit = sum(sides) / (1 + wanted)
        factors = [wanted * unit / sides[0], unit / sides[1]]
    elif given[0] == AUTO:
        factors[0] *= wanted / have
    else:
        factors[1] *= have / wanted
    return _weights(recipe, factors, f"{sides[0]:g} liked, {sides[1]:g} disliked, by weight")


def notes(recipe: Recipe) -> list[str]:
    """Return what was chosen, and from what, as notes for the plan and the report."""
    reasons: dict[str, list[str]] = {}
    for name, origin in recipe.origin.items():
        if origin.startswith(ORIGIN) and (name != "num_train_epochs" or recipe.max_steps < 0):
            reasons.setdefault(origin.removeprefix(ORIGIN), []).append(f"{name} = {recipe.values[name]:g}")
    return [f"{', '.join(values)} ({reason})" for reason, values in reasons.items()]


def _weights(recipe: Recipe, factors: list[float], reason: str) -> Recipe:
    names = ("desirable_weight", "undesirable_weight")
    return _chosen(recipe, {n: (round(f, 4), reason) for n, f in zip(names, factors, strict=True)})


def _chosen(recipe: Recipe, chosen: Mapping[str, tuple[Any, str]]) -> Recipe:
    picked = {name: found for name, found in chosen.items() if recipe.values.get(name) == AUTO}
    return replace(
        recipe,
        values={**recipe.values, **{name: value for name, (value, _) in picked.items()}},
        origin={**recipe.origin, **{name: ORIGIN + reason for name, (_, reason) in picked.items()}},
    )


def _rate(recipe: Recipe, facts: Facts) -> tuple[float, str]:
    reason = f"{_size(facts)}, {facts.rows} rows"
    if recipe.method == "sft":
        return _SFT_RATES[facts.parameters > _SFT_SIZE], reason
    if _is_measured(recipe, facts):
        return min(_MEASURED_RATE, float(f"{_rate_of_few(facts.rows):.2g}")), reason
    size = next(n for n, bound in enumerate(_SIZES) if facts.parameters <= bound)
    amount = next(n for n, bound in enumerate(_ROWS) if facts.rows < bound)
    rate = _DPO_RATES[size][amount]
    return (rate / 2 if recipe.method == "kto" else rate), reason


def _warmup(recipe: Recipe, facts: Facts) -> tuple[float, str]:
    steps = count_steps(recipe, facts.rows)
    if _is_measured(recipe, facts):
        return 0.0, f"{_size(facts)}, {facts.rows} rows"
    return (_WARMUP if steps >= _MIN_WARMUP_STEPS else 0.0), f"{steps} steps"


def _is_measured(recipe: Recipe, facts: Facts) -> bool:
    """Return whether rate and warm-up are those of the ablation: DPO on a small base with few rows."""
    small = recipe.method == "dpo" and facts.parameters <= _SMALLEST
    return small and _rate_of_few(facts.rows) > _DPO_RATES[0][0]


def _rate_of_few(rows: int) -> float:
    """Return the rate at which the steps over `rows` rows move as far as those that were measured."""
    return _MEASURED_RATE * _MEASURED_ROWS / max(1, rows)


def _beta(recipe: Recipe, facts: Facts) -> tuple[float, str]:
    losses = [loss for loss in recipe.values.get("loss_type", ()) if loss != "sft"]
    if len(losses) == 1 and losses[0] in _BETAS:
        return _BETAS[losses[0]], f"loss_type {losses[0]}"
    firm = facts.parameters <= _SIZES[0] and facts.rows >= _ROWS[1]
    return (0.5 if firm else 0.1), f"{_size(facts)}, {facts.rows} rows"


def _alpha(recipe: Recipe, facts: Facts) -> tuple[int, str]:
    if facts.start_alpha is not None:
        return facts.start_alpha, "the adapter that training goes on from"
    kind = "QLoRA" if recipe.qlora else "LoRA"
    if recipe.use_rslora:
        return recipe.r, f"{kind}, rank-stabilised, r = {recipe.r}"
    double = not recipe.qlora and facts.parameters <= _SIZES[0]
    return recipe.r * (2 if double else 1), f"{_size(facts)}, {kind}, r = {recipe.r}"


def _size(facts: Facts) -> str:
    """Return the base's size in words: `135M parameters`."""
    millions = facts.parameters / 1e6
    return f"{millions / 1e3:.3g}B parameters" if millions >= 999.5 else f"{millions:.3g}M parameters"
