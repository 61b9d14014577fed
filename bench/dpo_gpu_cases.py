"""The cases of `bench/dpo_gpu.py`: model, type and size of each, its rows, its recipe and its plan."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from random_model import SHAPES

from align.recipe.plan import Rows, plan
from align.recipe.recipe import Recipe, resolve
from align.training.packed.packing import Tree
from align.training.texts.data import Row


@dataclass(frozen=True)
class Case:
    """One measurement: a shape, its base's type, pairs per micro-batch, tokens per row, and a budget in GB if any."""

    shape: str
    nf4: bool
    pairs: int
    length: int
    budget_gb: float | None = None
    against_trl: bool = False
    method: str = "dpo"


CASES = {
    "65b-512": Case("65b", True, 1, 512, budget_gb=40.0),
    "65b-1024": Case("65b", True, 1, 1024, budget_gb=48.0),
    "65b-2048": Case("65b", True, 1, 2048, budget_gb=48.0),
    "8b-bf16": Case("8b", False, 8, 512, against_trl=True),
    "8b-nf4": Case("8b", True, 8, 512, against_trl=True),
    "1b-bf16": Case("1b", False, 8, 512, against_trl=True),
    "1b-nf4": Case("1b", True, 8, 512, against_trl=True),
    "8b-nf4-sft": Case("8b", True, 8, 512, against_trl=True, method="sft"),
    "1b-bf16-sft": Case("1b", False, 8, 512, against_trl=True, method="sft"),
    "135m-bf16": Case("135m", False, 8, 512),
    "135m-nf4": Case("135m", True, 8, 512),
    "135m-cpu": Case("135m", False, 4, 128, against_trl=True),
    "tiny-bf16": Case("tiny", False, 2, 32, against_trl=True),
    "tiny-nf4": Case("tiny", True, 2, 32, against_trl=True),
    "tiny-sft": Case("tiny", False, 2, 32, against_trl=True, method="sft"),
}
DEFAULT = [name for name in CASES if not name.startswith(("tiny", "135m")) and not name.endswith("sft")]


def make_rows(case: Case, n: int) -> list[Row]:
    """Return random rows of exactly `case.length` tokens; each answer ends with TRL's end token."""
    generator = torch.Generator().manual_seed(1)
    half = case.length // 2
    answers = 2 if case.method == "dpo" else 1

    def ids(count: int) -> list[int]:
        high = int(SHAPES[case.shape]["vocab_size"])
        return torch.randint(2, high, (count,), generator=generator).tolist()

    return [
        Row(str(i), Tree(ids(half), tuple([*ids(case.length - half - 1), 0] for _ in range(answers))))
        for i in range(n)
    ]


def recipe_of(case: Case, args: argparse.Namespace) -> Recipe:
    """Return the recipe that the worker would get for the case."""
    params: dict[str, Any] = {
        "max_steps": args.steps,
        "num_train_epochs": 1.0,
        "per_device_train_batch_size": case.pairs,
        "gradient_accumulation_steps": 1,
        "max_length": case.length,
        "lr_scheduler_type": "constant",
        "learning_rate": 1e-4,
        "warmup_steps": 0,
        "optim": args.optim,
        "r": 16,
        "lora_alpha": 32,
        "gradient_checkpointing": True if args.recompute or case.budget_gb else "auto",
    }
    if case.method == "dpo":
        params |= {"share_prompt": not args.no_share, "beta": 0.1}
    return resolve(case.method, case.nf4, params)


def planned(case: Case, args: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """Return what `align.recipe.plan` says of the case on this device."""
    half = case.length / 2
    rows = Rows(case.pairs * args.steps, half, half, case.length)
    available = float(torch.cuda.mem_get_info()[0]) if args.device == "cuda" else None
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "config.json").write_text(json.dumps(SHAPES[case.shape]))
        found = plan(scratch, recipe, rows, args.device, available)
    parts = {name: round(size / 1e9, 3) for name, size in found.parts.items()}
    # The probe is a phase of its own, which is not run here.
    without_probe = found.total - found.parts.get("probe", 0.0)
    return {"gb": round(without_probe / 1e9, 2), "seconds": round(found.seconds, 2), "parts_gb": parts}
