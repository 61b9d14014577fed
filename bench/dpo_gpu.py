# ruff: noqa: E402 (the path must be set before our own imports, and the environment before torch)
"""DPO on one GPU through `align`: peak memory and tokens per second, for models with random weights.

    python3 bench/dpo_gpu.py                       everything (one H100: see docs/benchmarks.md for how long)
    python3 bench/dpo_gpu.py --cases 65b-512,65b-2048
    python3 bench/dpo_gpu.py --device cpu --cases tiny-nf4,tiny-bf16 --steps 3        alive on any machine
    OMP_NUM_THREADS=2 taskset -c 0,1 python3 bench/dpo_gpu.py --device cpu --cases 135m-cpu --steps 4      two CPU cores

Needs this repository and torch, transformers, peft, trl, bitsandbytes, datasets; no weights, no network, no other
package of ours. What is timed is `align.training.methods.dpo.PairTrainer`, built as the worker builds it; where a case
names a comparison, plain TRL's `DPOTrainer` (of an SFT case its `SFTTrainer`) trains the same rows on the same model with
its own defaults, but the same batch,
optimiser and LoRA. One JSON object a case, then the line that every benchmark ends with.

A row is a prompt of half the length and two answers of the other half; tokens a second count chosen + rejected rows
(2 x length), as a padded batch would hold, whether or not the prompt is computed twice. GB are 10^9 bytes of
`torch.cuda.max_memory_allocated`, from before the model is built.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import torch
from dpo_gpu_cases import CASES, DEFAULT, Case, make_rows, planned, recipe_of
from gpu_meter import Meter, matrix_rate, step_timer, versions
from peft import LoraConfig
from random_model import SHAPES, build, parameters, word_tokenizer

from align.progress import ProgressLog, StopSwitch
from align.run_directory import RunDirectory, RunSpec
from align.training.fused.lora import fuse_lora
from align.training.fused.norms import fuse_norms
from align.training.memory.recomputation import choose_recomputation
from align.training.memory.running_out import free_memory
from align.training.methods import dpo, sft
from align.training.model import Hardware, add_adapter, without_dropout
from align.training.packed.packed_model import disagreement, make_packed
from align.training.scoring import score_rows
from align.training.session import Session
from align.training.texts.data import Row
from align.training.trainer import train


def run_align(case: Case, args: argparse.Namespace, meter: Meter, dtype: torch.dtype) -> dict[str, Any]:
    """Train with our trainer; include the reference pass in the peak, and report it apart in time."""
    recipe = recipe_of(case, args)
    plan_of_case = planned(case, args, recipe)
    model = build(case.shape, case.nf4, args.device, dtype)
    built = meter.gigabytes()
    without_dropout(model)  # not eval(): on the CPU that repacks 4-bit weights for another, coarser product
    gap = disagreement(model)
    make_packed(model)
    hardware = Hardware(args.device, dtype, args.optim, args.device == "cuda")
    peft_model = add_adapter(model, recipe, None)
    if not args.plain:
        fuse_norms(model)
        fuse_lora(peft_model)
    with tempfile.TemporaryDirectory() as scratch:
        run = RunDirectory(scratch)
        spec = RunSpec(case.method, "random", recipe.to_dict(), "s-random")
        session = Session(run, spec, recipe, hardware, ProgressLog(run), StopSwitch(run))
        rows = make_rows(case, case.pairs * args.steps)
        without_dropout(peft_model)
        reference: list[list[float]] = []
        reference_seconds = warm_up = 0.0
        if case.method == "dpo":
            # Once to warm up, as the first step of training is not timed either.
            warm_up, _ = score_reference(session, peft_model, rows[: case.pairs], args.reference_tokens)
            reference_seconds, reference = score_reference(session, peft_model, rows, args.reference_tokens)
        choose_recomputation(session, peft_model, rows, free_memory(args.device))
        timer, times = step_timer(meter, args.profile)
        tokenizer = word_tokenizer(int(SHAPES[case.shape]["vocab_size"]))

        def make(watch: Any) -> Any:
            if case.method == "dpo":
                trainer: Any = dpo.build(session, peft_model, tokenizer, rows, reference, watch)
            else:
                trainer = sft.build(session, peft_model, tokenizer, rows, watch)
            trainer.add_callback(timer)
            return trainer

        trained = train(session, make, peft_model)
        losses = [row["loss"] for row in trained.watch.history]
    found = figures_of_steps(case, times, meter)
    if "reserved_gb" in found:
        used = found["reserved_gb"] + found["context_gb"]
        plan_of_case["of_measured_memory"] = round(plan_of_case["gb"] / used, 3)
        taken = args.steps * found["step_seconds"] + reference_seconds
        plan_of_case["of_measured_seconds"] = round(plan_of_case["seconds"] / taken, 2)
    return {
        "built": built,
        **found,
        "reference_seconds_per_step": round(reference_seconds / args.steps, 4),
        "reference_warm_up_seconds": round(warm_up, 2),
        "losses": [round(x, 4) for x in losses],
        "packed_against_plain": gap,
        "plan": plan_of_case,
        "notes": session.notes,
    }


def score_reference(
    session: Session, model: Any, rows: list[Row], tokens: int | None
) -> tuple[float, list[list[float]]]:
    """Return seconds and log-probabilities of a pass over `rows` without the adapter."""
    began = time.perf_counter()
    found: list[list[float]] = [[] for _ in rows]
    share = bool(session.recipe.share_prompt)
    with model.disable_adapter():
        for index, sums in score_rows(model, rows, share, autocast=session.autocast, tokens=tokens):
            found[index] = sums
    return time.perf_counter() - began, found


LORA: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
# TRL as somebody who knows it would set it on a card with room.
TUNED: dict[str, dict[str, Any]] = {
    "dpo": {"gradient_checkpointing": False, "precompute_ref_log_probs": True},
    "sft": {"gradient_checkpointing": False},
}


def run_trl(
    case: Case, args: argparse.Namespace, meter: Meter, dtype: torch.dtype, tuned: bool = False
) -> dict[str, Any]:
    """Train the same rows with plain TRL, its defaults but for batch, optimiser and logging, or with `TUNED` too."""
    timer, times = step_timer(meter)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        settings = trl_settings(case, args, scratch) | (TUNED[case.method] if tuned else {})
        model = build(case.shape, case.nf4, args.device, dtype)
        rows = make_rows(case, case.pairs * args.steps)
        trainer = trl_trainer(case, model, rows, settings, timer, LoraConfig(**LORA))
        return train_with_trl(case, args, meter, trainer, times, began)


def trl_settings(case: Case, args: argparse.Namespace, scratch: str) -> dict[str, Any]:
    """Return TRL's settings of a case: its defaults but for batch, optimiser, learning rate and logging."""
    return {
        "output_dir": scratch,
        "max_steps": args.steps,
        "per_device_train_batch_size": case.pairs,
        "gradient_accumulation_steps": 1,  # TRL's default, but not Unsloth's
        "max_length": case.length,
        "optim": args.optim,
        "logging_steps": 1,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "bf16": args.device == "cuda",
        "use_cpu": args.device == "cpu",
    }


def train_with_trl(
    case: Case, args: argparse.Namespace, meter: Meter, trainer: Any, times: list[float], began: float
) -> dict[str, Any]:
    """Train with a trainer of TRL's; return its figures, losses and the lengths of its rows."""
    prepared = time.perf_counter() - began
    lengths = {
        len(row["input_ids"]) if case.method == "sft" else len(row["prompt_ids"]) + len(row["chosen_ids"])
        for row in trainer.train_dataset
    }
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        **figures_of_steps(case, times, meter),
        "losses": [round(float(x), 4) for x in losses],
        "row_tokens": sorted(lengths),
        "prepared_seconds": round(prepared, 2),  # its reference pass too, where that is computed beforehand
    }


def trl_trainer(
    case: Case, model: Any, rows: list[Row], settings: dict[str, Any], timer: Any, lora: LoraConfig | None
) -> Any:
    """Return TRL's trainer of the case's method for these rows; `lora` is None where the model has its adapter."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    names = ("chosen", "rejected") if case.method == "dpo" else ("completion",)
    trainer, config = (DPOTrainer, DPOConfig) if case.method == "dpo" else (SFTTrainer, SFTConfig)

    def text(ids: Any) -> str:
        return " ".join(f"w{i}" for i in ids) + " "

    data = [
        {"prompt": text(row.tree.prompt)}
        | {name: text(ids[:-1]) for name, ids in zip(names, row.tree.answers, strict=True)}
        for row in rows
    ]
    return trainer(
        model=model,
        args=config(**settings),
        train_dataset=Dataset.from_list(data),
        processing_class=word_tokenizer(int(SHAPES[case.shape]["vocab_size"])),
        peft_config=lora,
        callbacks=[timer],
    )


def figures_of_steps(case: Case, times: list[float], meter: Meter) -> dict[str, Any]:
    """Return the median seconds of a step after the first, tokens a second and memory."""
    steps = [b - a for a, b in itertools.pairwise(times[1:])]
    seconds = sorted(steps)[len(steps) // 2]
    return {
        "step_seconds": round(seconds, 4),
        "tokens_per_second": round(
            (2 if case.method == "dpo" else 1) * case.pairs * case.length / seconds, 1
        ),
        **meter.gigabytes(),
    }


def measure(args: argparse.Namespace, case: str, who: str) -> dict[str, Any]:
    """Return the figures of one contestant, from a process of its own unless asked otherwise."""
    if not args.together:
        return alone(case, who)
    result = figures(args, case, who)
    gc.collect()
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return result


def alone(case: str, who: str) -> dict[str, Any]:
    """Run one contestant in its own process, so that its memory is measured alone."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        command = [sys.executable, __file__, *sys.argv[1:], "--contestant", case, who, str(out)]
        status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
        if not out.exists():
            return {"error": f"ended with status {status}"}
        result: dict[str, Any] = json.loads(out.read_text())
        return result


def figures(args: argparse.Namespace, name: str, who: str) -> dict[str, Any]:
    """Train one contestant in this process; return the figures or the error."""
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    meter = Meter(args.device)
    began = time.perf_counter()
    try:
        if who == "align":
            result = run_align(CASES[name], args, meter, dtype)
        else:
            result = run_trl(CASES[name], args, meter, dtype, who == "trl-tuned")
    except Exception as error:
        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {error}"[:500], **meter.gigabytes()}
    result["wall_seconds"] = round(time.perf_counter() - began, 1)
    return result


def contestant(args: argparse.Namespace) -> int:
    """Train the contestant that `alone` started this process for; write the figures."""
    name, who, out = args.contestant
    Path(out).write_text(json.dumps(figures(args, name, who)))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(DEFAULT), help=f"of {', '.join(CASES)}")
    parser.add_argument("--steps", type=int, default=5, help="optimiser steps (the first is not timed)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--optim", default="adamw_8bit", help="as a recipe names it")
    parser.add_argument("--no-share", action="store_true", help="compute each prompt twice")
    parser.add_argument(
        "--tuned", action="store_true", help="TRL with " + ", ".join(TUNED["dpo"]) + " as well"
    )
    parser.add_argument("--recompute", action="store_true", help="recompute all activations")
    parser.add_argument("--plain", action="store_true", help="PEFT's LoRA layers and the model's own norms")
    parser.add_argument("--together", action="store_true", help="all in one process, which saves the imports")
    parser.add_argument("--profile", action="store_true", help="print the kernels of the third step")
    parser.add_argument("--no-trl", action="store_true", help="leave the comparison out")
    parser.add_argument(
        "--quick", action="store_true", help="the two 65B cases on CUDA, the tiny ones elsewhere"
    )
    parser.add_argument(
        "--reference-tokens", type=int, default=None, help="tokens a batch of the reference pass"
    )
    parser.add_argument("--contestant", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        return contestant(args)
    if args.quick:
        args.cases = "65b-512,65b-2048" if args.device == "cuda" else "tiny-nf4,tiny-bf16"
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    rate = matrix_rate(args.device, dtype)
    results: dict[str, Any] = {}
    for name in args.cases.split(","):
        case = CASES[name]
        result: dict[str, Any] = {
            "case": name,
            "pairs": case.pairs,
            "length": case.length,
            "steps": args.steps,
        }
        count = parameters(case.shape)
        result["parameters"] = count
        rivals = (
            ("trl", *(["trl-tuned"] if args.tuned else [])) if case.against_trl and not args.no_trl else ()
        )
        for who in ("align", *rivals):
            result[who] = measure(args, name, who)
            if "tokens_per_second" in result[who]:
                # Forward and backward to the inputs: 4 FLOPs a parameter and token; no gradient of frozen weights.
                useful = 4 * count * result[who]["tokens_per_second"]
                result[who]["share_of_matrix_rate"] = round(useful / rate, 3)
        if (
            {"align", "trl"} <= result.keys()
            and "error" not in result["align"]
            and "error" not in result["trl"]
        ):
            ours, theirs = result["align"], result["trl"]["step_seconds"]
            result["speedup"] = round(theirs / ours["step_seconds"], 2)
            once = ours["step_seconds"] + ours["reference_seconds_per_step"]
            result["speedup_with_reference_one_epoch"] = round(theirs / once, 2)
        if case.budget_gb is not None:
            result["budget_gb"] = case.budget_gb
            result["ok"] = result["align"].get("peak_gb", 1e9) <= case.budget_gb
        results[name] = result
        print(json.dumps(result), flush=True)
    peaks = {n: r["align"].get("peak_gb") for n, r in results.items() if "budget_gb" in r}
    print(
        json.dumps(
            {
                "name": "dpo_gpu",
                "figure": peaks or {n: r["align"].get("tokens_per_second") for n, r in results.items()},
                "unit": "GB peak" if peaks else "tokens/s",
                "budget": {n: CASES[n].budget_gb for n in peaks},
                "ok": all(r.get("ok", "error" not in r["align"]) for r in results.values()),
                "matrix_tflops": round(rate / 1e12, 1),
                "versions": versions(),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
