# ruff: noqa: E402 (unsloth must be imported before what it patches, and the environment set before it)
"""Unsloth as a contestant of `bench/dpo_gpu.py`: the same rows, LoRA, batch and optimiser, on its own model and patches.

    UNSLOTH/bin/python bench/training/unsloth_dpo.py --cases 1b-bf16,8b-nf4 [--steps 5] [--device cuda]

It takes other versions of transformers, TRL and datasets than this project, so it runs from an environment of its own:

    python -m venv UNSLOTH && UNSLOTH/bin/pip install unsloth==2026.10.9

The model has random weights and a word tokenizer, written to a directory first because Unsloth loads from one. Compare its
seconds per step with those that `bench/dpo_gpu.py` prints on the same card: TRL's step computes the reference too, ours is
`step_seconds` + `reference_seconds_per_step`. One JSON object a case; the last line has the versions.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import unsloth  # first: it patches transformers and TRL while they are imported

# isort: split
import torch
from dpo_gpu import LORA, train_with_trl, trl_settings, trl_trainer
from dpo_gpu_cases import CASES, Case, make_rows
from gpu_meter import Meter, step_timer, versions
from random_model import SHAPES, build, word_tokenizer

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""The names of all linear layers: Unsloth takes no "all-linear" for its fast ones."""


def write_model(case: Case, device: str, out: Path) -> None:
    """Write the case's shape with random weights, unquantised, and its word tokenizer."""
    model = build(case.shape, False, device, torch.bfloat16 if device == "cuda" else torch.float32)
    model.save_pretrained(out)
    word_tokenizer(int(SHAPES[case.shape]["vocab_size"])).save_pretrained(out)


def run(case: Case, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Train one case with Unsloth's model under TRL's trainer."""
    write_model(case, args.device, scratch / "model")
    gc.collect()
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    meter = Meter(args.device)
    timer, times = step_timer(meter)
    began = time.perf_counter()
    model, _ = unsloth.FastLanguageModel.from_pretrained(
        str(scratch / "model"), max_seq_length=case.length, load_in_4bit=case.nf4,
        dtype=torch.bfloat16 if args.device == "cuda" else torch.float32,
    )  # fmt: skip
    model = unsloth.FastLanguageModel.get_peft_model(
        model, r=LORA["r"], lora_alpha=LORA["lora_alpha"], target_modules=LINEAR, lora_dropout=0,
        use_gradient_checkpointing=args.checkpointing,
    )  # fmt: skip
    rows = make_rows(case, case.pairs * args.steps)
    trainer = trl_trainer(case, model, rows, trl_settings(case, args, str(scratch / "out")), timer, None)
    return train_with_trl(case, args, meter, trainer, times, began)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default="1b-bf16,8b-nf4", help=f"of {', '.join(CASES)}")
    parser.add_argument("--steps", type=int, default=5, help="optimiser steps (the first is not timed)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--optim", default="adamw_8bit")
    parser.add_argument("--no-checkpointing", dest="checkpointing", action="store_false", default="unsloth")
    args = parser.parse_args()
    for name in args.cases.split(","):
        scratch = Path(tempfile.mkdtemp())
        try:
            found: dict[str, Any] = run(CASES[name], args, scratch)
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:800]}
        finally:
            shutil.rmtree(scratch)
        print(json.dumps({"case": name, "unsloth": found}), flush=True)
    print(json.dumps({"name": "unsloth_dpo", "versions": versions() | {"unsloth": unsloth.__version__}}))


if __name__ == "__main__":
    main()
