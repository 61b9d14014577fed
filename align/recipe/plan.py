"""Plan first: what a run will need, from the base's `config.json` and the recipe alone. No torch, no weights.

Memory is added up by part. What is counted was measured: the activations that autograd keeps for a Llama-shaped layer
(floats per token, `kept`), and the constant part of a process. Time is the floating-point operations of the passes over
the machine's measured or assumed rate. Estimates are for models of the Llama family; others come close when their
`config.json` uses the same names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from align.errors import ENGINE_SHARE, AlignError, DataError, ModelError
from align.recipe.activations import (
    beside_layers,
    kept_on_cpu,
    kept_on_cuda,
    layers_to_recompute,
    passing,
    scored,
)
from align.recipe.auto import count_steps
from align.recipe.auto import notes as auto_notes
from align.recipe.methods import ROW_SHAPES
from align.recipe.recipe import Recipe, cautions, with_passes
from align.recipe.shape import Shape
from common.durations import duration

GB = 1e9
# Bytes per parameter of a 4-bit base: a nibble, an 8-bit scale for 64, and its own float32 scale for 256 of those.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# What a process needs before there is a model: interpreter and libraries on the CPU, context and kernels on CUDA.
RUNTIME = {"cpu": 0.62 * GB, "cuda": 0.82 * GB}
# What the allocator holds on CUDA beyond what tensors take, as a share of it.
FRAGMENTS = 0.015
# Tokens of a pack when nothing is learned, and of the probe on a GPU.
SCORING_TOKENS, PROBE_TOKENS = 8192, 6 * 384
# The gaps between the activations in the C heap, as a share of them. Fitted to five cases of bench/training/plan.py when the
# allocator was set to keep its pages.
HEAP_GAPS = 0.25
# Share of the rate of large matrix products that a whole step reaches.
EFFICIENCY = {"cpu": 0.55, "cuda": 0.45}
# Rates assumed when none was measured, FLOP/s: two CPU cores, and one recent data-centre GPU in bfloat16.
RATE = {"cpu": 80e9, "cuda": 780e12}
# Seconds that starting the operations of one layer takes, which is what a step of a small model waits for on a GPU: forward
# and backward, and forward alone.
STEP_LAUNCH = {"cpu": 0.0, "cuda": 0.008}
PASS_LAUNCH = {"cpu": 0.0, "cuda": 0.0012}
# Seconds that the first step takes beyond the others, and as many more for each number of the base.
FIRST_STEP = {"cpu": (0.0, 0.0), "cuda": (1.0, 0.4e-9)}
# What a chat template adds to a message.
TEMPLATE_TOKENS = 8


class PlanError(AlignError):
    """The run cannot fit; `hint` names the knob to turn."""

    kind = "plan"


@dataclass(frozen=True)
class Rows:
    """The data: how many rows, and mean and largest tokens of a prompt and of one answer."""

    count: int
    prompt: float
    answer: float
    longest: int


@dataclass(frozen=True)
class Plan:
    """An estimate. Bytes by part, optimiser steps, seconds; `advice` is the knob to turn if it does not fit."""

    trainable_parameters: int
    parts: dict[str, float]
    steps: int
    seconds: float
    available: float | None
    advice: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def total(self) -> float:
        """Peak memory in bytes."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the peak is below what is available (unknown counts as yes)."""
        return self.available is None or self.total <= self.available

    def within(self, available: float) -> Plan:
        """Return the same estimate against another amount of memory, in bytes."""
        return replace(self, available=available)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {**vars(self), "total": self.total, "fits": self.fits}

    def explain(self) -> str:
        """Return the plan as lines for a terminal."""
        lines = [f"trainable parameters  {self.trainable_parameters:,}"]
        lines += [f"  {name:<20}{size / GB:8.2f} GB" for name, size in self.parts.items()]
        room = "" if self.available is None else f" of {self.available / GB:.2f} GB"
        lines.append(
            f"peak memory           {self.total / GB:8.2f} GB{room}{'' if self.fits else '  DOES NOT FIT'}"
        )
        lines.append(f"time                  {duration(self.seconds)} for {self.steps} steps")
        return "\n".join([*lines, *self.notes, *([] if self.fits else [self.advice])])


def plan(
    base_model: str | Path,
    recipe: Recipe,
    rows: Rows,
    device: str = "cpu",
    available: float | None = None,
    rate: float | None = None,
) -> Plan:
    """Estimate memory and time of a run of `recipe` on `base_model` (a directory with a config.json).

    `available` is the device's memory in bytes, `rate` its rate of matrix products in FLOP/s. Raises `ModelError`
    when the configuration cannot be read.
    """
    shape = Shape.read(Path(base_model))
    planned = recipe
    recipe, passes = with_passes(recipe, rows.count)
    trainable = shape.trainable(recipe)
    weight_bytes = 4 if device == "cpu" or recipe.dtype == "float32" else 2
    tokens = _tokens_in_a_micro_batch(recipe, rows)
    weights = shape.linear * (NF4_BYTES if recipe.qlora else weight_bytes) + shape.rest * weight_bytes
    fixed = {
        "runtime": RUNTIME[device],
        "weights": weights,
        "adapter": 4.0 * trainable,
        "gradients": 4.0 * trainable,
        "optimiser": trainable * _optimiser_bytes(recipe, device),
    }
    kept = _kept(shape, recipe, rows, device) * weight_bytes
    free = None if available is None else available - sum(fixed.values())
    recomputed = _recomputed(shape, recipe, device, free, kept, tokens, weight_bytes)
    parts = {
        **fixed,
        "activations": _activations(shape, recipe, tokens, weight_bytes, kept, recomputed),
        "logits": _logits(shape, recipe, rows, weight_bytes, device),
    }
    more: list[str] = []
    if device == "cuda":
        parts["fragments"] = FRAGMENTS * sum(parts.values())
        more = _other_phases(parts, shape, recipe, weight_bytes, available)
        if recomputed > 0 and recipe.gradient_checkpointing == "auto":
            more.append(f"activations of {recomputed} of {shape.layers} layers are recomputed")
    chosen = [passes] if passes and recipe.max_steps < 0 else []
    notes = [*auto_notes(planned), *chosen, *cautions(recipe), *more]
    if device == "cpu" and not recomputed:
        parts["heap gaps"] = HEAP_GAPS * parts["activations"]
    if recipe.qlora and device == "cpu":
        # Quantising reads the whole file, and its pages stay with the process until the kernel wants them.
        parts["mapped file"] = float(
            sum(file.stat().st_size for file in Path(base_model).glob("*.safetensors"))
        )
    if recipe.num_processes > 1:
        if device == "cpu":
            parts = {name: size * recipe.num_processes for name, size in parts.items()}
        notes.append(
            f"{recipe.num_processes} processes" + ("" if device == "cpu" else ": memory is that of each GPU")
        )
    steps = count_steps(recipe, rows.count)
    seconds = _seconds(shape, recipe, rows, steps, recomputed / shape.layers, rate or RATE[device], device)
    advice = _advice(recipe, parts, recomputed > 0, device)
    return Plan(trainable, parts, steps, seconds, available, advice, tuple(notes))


def require_fit(estimate: Plan) -> None:
    """Raise `PlanError` naming the knob to turn when `estimate` does not fit."""
    if not estimate.fits and estimate.available is not None:
        need, have = estimate.total / GB, estimate.available / GB
        raise PlanError(f"the run needs about {need:.1f} GB, {have:.1f} GB are there", estimate.advice)


def measure_rows(snapshot: Path, base_model: str | Path, method: str, sample: int = 256) -> Rows:
    """Return the token counts of a snapshot file, from its first `sample` rows. Raises as `count_rows`, and `DataError`
    when the file cannot be read.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(snapshot)
    except (OSError, ValueError) as error:
        raise DataError(f"{snapshot} cannot be read: {error}") from error
    if not table.num_rows:
        raise DataError(f"{snapshot.name} has no rows")
    return count_rows(table.slice(0, sample).to_pylist(), table.num_rows, base_model, method)


def count_rows(rows: Sequence[Mapping[str, Any]], total: int, base_model: str | Path, method: str) -> Rows:
    """Return the token counts of `total` rows from some of them, by the base's own tokenizer.

    Texts or lists of messages; the chat template is counted as `TEMPLATE_TOKENS` per message. Raises `ModelError` without a
    tokenizer.json.
    """
    from tokenizers import Tokenizer

    file = Path(base_model) / "tokenizer.json"
    if not file.is_file():
        raise ModelError(f"{base_model} has no tokenizer.json to count with")
    tokenizer = Tokenizer.from_file(str(file))

    def count(value: str | Sequence[Mapping[str, str]]) -> int:
        texts = [value] if isinstance(value, str) else [message["content"] for message in value]
        return sum(
            len(tokenizer.encode(text, add_special_tokens=False).ids) + TEMPLATE_TOKENS for text in texts
        )

    names = ROW_SHAPES[method].answers
    prompts, answers, longest = [], [], 0
    for row in rows:
        prompts.append(count(row["prompt"]))
        sizes = [count(row[name]) for name in names]
        answers += sizes
        longest = max(longest, prompts[-1] + max(sizes))
    return Rows(total, sum(prompts) / len(prompts), sum(answers) / len(answers), longest)


def _tokens_in_a_micro_batch(recipe: Recipe, rows: Rows) -> float:
    prompt, answer = _lengths(recipe, rows)
    answers = len(ROW_SHAPES[recipe.method].answers)
    shared = answers > 1 and recipe.packing and recipe.share_prompt
    one = prompt + answers * answer if shared else answers * (prompt + answer)
    # The largest micro-batch, not the mean one, decides; rows vary by about half their length.
    spread = (min(rows.longest, recipe.max_length) / max(1.0, prompt + answer)) ** (
        1 / recipe.per_device_train_batch_size
    )
    return float(recipe.per_device_train_batch_size * one * spread)


def _lengths(recipe: Recipe, rows: Rows) -> tuple[float, float]:
    prompt = min(rows.prompt, recipe.max_length - 1)
    return prompt, min(rows.answer, recipe.max_length - prompt)


def _kept(shape: Shape, recipe: Recipe, rows: Rows, device: str) -> float:
    """Return the numbers per token that autograd keeps in one layer."""
    if device == "cpu":
        return kept_on_cpu(shape, recipe.r)
    prompt, answer = _lengths(recipe, rows)
    answers = len(ROW_SHAPES[recipe.method].answers)
    copies = 1.0
    if answers > 1 and recipe.packing and recipe.share_prompt:
        copies = (prompt + answers * (prompt + answer)) / (prompt + answers * answer)
    return kept_on_cuda(shape, recipe.r, copies)


def _recomputed(
    shape: Shape, recipe: Recipe, device: str, free: float | None, kept: float, tokens: float, size: int
) -> int:
    """Return how many layers' activations the worker will recompute; all that it may where `free` is unknown."""
    if recipe.gradient_checkpointing != "auto":
        return shape.layers if recipe.gradient_checkpointing else 0
    if device == "cpu":
        return 0
    if free is None or not recipe.packing:
        return shape.layers
    beside = beside_layers(0, shape.hidden, shape.inner, shape.vocabulary, size) + tokens * kept
    boundary = shape.hidden * size
    return layers_to_recompute(free - beside, kept * shape.layers, boundary, shape.layers, tokens)


def _activations(
    shape: Shape, recipe: Recipe, tokens: float, size: int, kept: float, recomputed: int
) -> float:
    held = recomputed * shape.hidden * size + (shape.layers - recomputed) * kept
    if recomputed == shape.layers:
        held += kept  # the one that is computed again
    dequantised = 2.0 * shape.inner * shape.hidden if recipe.qlora and recomputed else 0.0
    return tokens * (held + passing(shape) * size) + dequantised


def _other_phases(
    parts: dict[str, float], shape: Shape, recipe: Recipe, size: int, available: float | None
) -> list[str]:
    """Add what scoring and the probe need beyond training to `parts`; return notes."""
    training, base = sum(parts.values()), parts["runtime"] + parts["adapter"]
    logits = 512 * shape.vocabulary * 8.0
    scoring = base + parts["weights"] + SCORING_TOKENS * scored(shape) * size + logits
    parts["scoring"] = max(0.0, scoring * (1 + FRAGMENTS) - training)
    floats = (shape.linear + shape.rest) * size
    # The parts of the adapter are computed in float32, of whose weights only one layer's are there at a time.
    widest = 4.0 * shape.hidden * max(shape.vocabulary, shape.inner)
    texts = PROBE_TOKENS * shape.vocabulary * 4.0 + 384 * shape.vocabulary * 8.0
    probe = (base + floats + widest + texts) * (1 + FRAGMENTS)
    if recipe.qlora and (available is None or probe > available):
        return [
            f"the probe of the base in full precision takes {probe / GB:.1f} GB: without them it is left out, and "
            "publishing compares with the 4-bit base"
        ]
    parts["probe"] = max(0.0, probe - training - parts["scoring"])
    return []


def _logits(shape: Shape, recipe: Recipe, rows: Rows, size: int, device: str) -> float:
    chunk = 128 if device == "cpu" else 512
    _, answer = _lengths(recipe, rows)
    targets = recipe.per_device_train_batch_size * answer * len(ROW_SHAPES[recipe.method].answers)
    return min(chunk, targets) * shape.vocabulary * (4 + 4 + size) + 3 * targets * shape.hidden * size


def _optimiser_bytes(recipe: Recipe, device: str) -> float:
    eight_bit = recipe.optim in ("adamw_8bit", "paged_adamw_8bit") or (
        recipe.optim == "auto" and recipe.qlora
    )
    return {"sgd": 0.0, "adafactor": 0.1, "lion_8bit": 1.0}.get(recipe.optim, 2.0 if eight_bit else 8.0)


def _seconds(
    shape: Shape, recipe: Recipe, rows: Rows, steps: int, again: float, rate: float, device: str
) -> float:
    """Return the time of all steps and of the reference pass; `again` is the share of layers that are recomputed."""
    batches = recipe.gradient_accumulation_steps * steps
    tokens = _tokens_in_a_micro_batch(recipe, rows)
    prompt, answer = _lengths(recipe, rows)
    reached = rate * EFFICIENCY[device]
    body = 2.0 * shape.linear * tokens * (2 + again)  # forward, backward to the inputs, and forward again
    head = 2.0 * shape.vocabulary * shape.hidden * tokens * answer / (prompt + answer) * 2
    seconds = batches * max((body + head) / reached, shape.layers * STEP_LAUNCH[device])
    if ROW_SHAPES[recipe.method].needs_reference:
        once = tokens / recipe.per_device_train_batch_size * rows.count
        packs = math.ceil(once / SCORING_TOKENS)
        seconds += max(2.0 * shape.linear * once / reached, packs * shape.layers * PASS_LAUNCH[device])
    once_only, per_number = FIRST_STEP[device]
    return float(seconds) + once_only + per_number * (shape.linear + shape.rest)


def _advice(recipe: Recipe, parts: dict[str, float], checkpointing: bool, device: str) -> str:
    knob = _knob(recipe, parts, checkpointing)
    return knob if device == "cpu" else f"{knob}; or {ENGINE_SHARE}"


def _knob(recipe: Recipe, parts: dict[str, float], checkpointing: bool) -> str:
    largest = max(("weights", "activations", "optimiser", "logits"), key=lambda name: parts[name])
    if largest == "weights" and not recipe.qlora:
        return "use QLoRA (qlora = true): the weights are the largest part"
    if largest == "activations" and recipe.per_device_train_batch_size > 1:
        return "lower per_device_train_batch_size and raise gradient_accumulation_steps: activations are the largest part"
    if largest == "activations" and not checkpointing:
        return "set gradient_checkpointing = true: activations are the largest part"
    if largest in ("activations", "logits"):
        return "lower max_length"
    return "use a smaller base model, or lower r" if recipe.qlora else "lower r, or use a smaller base model"
