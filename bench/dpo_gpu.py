# ruff: noqa: E402 (the path must be set before our own imports, and the environment before torch)
"""DPO on one GPU through `align`: peak memory and tokens per second, for models with random weights.

    python3 bench/dpo_gpu.py                       everything (one H100: see docs/benchmarks.md for how long)
    python3 bench/dpo_gpu.py --cases 65b-512,65b-2048
    python3 bench/dpo_gpu.py --device cpu --cases tiny-nf4,tiny-bf16 --steps 3        alive on any machine
    OMP_NUM_THREADS=2 taskset -c 0,1 python3 bench/dpo_gpu.py --device cpu --cases 135m-cpu --steps 4      two CPU cores

Needs this repository and torch, transformers, peft, trl, bitsandbytes, datasets; no weights, no network, no other
package of ours. What is timed is `align.training.methods.dpo.PairTrainer`, built as the worker builds it;
where a case names a
comparison, plain TRL's `DPOTrainer` trains the same rows on the same model with its own defaults, but the same batch,
optimiser and LoRA. One JSON object a case, then the line that every benchmark ends with.

A row is a prompt of half the length and two answers of the other half; tokens a second count chosen + rejected rows
(2 x length), as a padded batch would hold, whether or not the prompt is computed twice. GB are 10^9 bytes of
`torch.cuda.max_memory_allocated`, from before the model is built.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import torch
from random_model import SHAPES, build, parameters, word_tokenizer

from align.progress import ProgressLog, StopSwitch
from align.recipe.recipe import resolve
from align.run_directory import RunDirectory, RunSpec
from align.training.data import Row
from align.training.methods import dpo
from align.training.model import Hardware, add_adapter, without_dropout
from align.training.packed.packed_model import disagreement, make_packed
from align.training.packed.packing import Tree
from align.training.scoring import score_rows
from align.training.session import Session
from align.training.trainer import train


@dataclass(frozen=True)
class Case:
    """One measurement: a shape, its base's type, pairs per micro-batch, tokens per row, and a budget in GB if any."""

    shape: str
    nf4: bool
    pairs: int
    length: int
    budget_gb: float | None = None
    against_trl: bool = False


CASES = {
    "65b-512": Case("65b", True, 1, 512, budget_gb=40.0),
    "65b-1024": Case("65b", True, 1, 1024, budget_gb=48.0),
    "65b-2048": Case("65b", True, 1, 2048, budget_gb=48.0),
    "8b-bf16": Case("8b", False, 8, 512, against_trl=True),
    "8b-nf4": Case("8b", True, 8, 512, against_trl=True),
    "1b-bf16": Case("1b", False, 8, 512, against_trl=True),
    "1b-nf4": Case("1b", True, 8, 512, against_trl=True),
    "135m-cpu": Case("135m", False, 4, 128, against_trl=True),
    "tiny-bf16": Case("tiny", False, 2, 32, against_trl=True),
    "tiny-nf4": Case("tiny", True, 2, 32, against_trl=True),
}
DEFAULT = [name for name in CASES if not name.startswith(("tiny", "135m"))]


class Meter:
    """Peak GPU memory, and seconds per step without the first, which warms up kernels and the allocator."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def gigabytes(self) -> dict[str, float]:
        """Return the peak of this process; nothing without a GPU."""
        if not self.cuda:
            return {}
        return {
            "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
            "reserved_gb": round(torch.cuda.max_memory_reserved() / 1e9, 2),
        }

    def synchronize(self) -> None:
        """Wait for the device, so that times cover finished work."""
        if self.cuda:
            torch.cuda.synchronize()


def step_timer(meter: Meter) -> tuple[Any, list[float]]:
    """Return a callback that records the end of each step, and the list of those times."""
    from transformers import TrainerCallback

    times: list[float] = []

    class Timer(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            meter.synchronize()
            times.append(time.perf_counter())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            meter.synchronize()
            times.append(time.perf_counter())

    return Timer(), times


def make_rows(case: Case, n: int) -> list[Row]:
    """Return random rows of exactly `case.length` tokens; each answer ends with TRL's end token."""
    generator = torch.Generator().manual_seed(1)
    half = case.length // 2

    def ids(count: int) -> list[int]:
        high = int(SHAPES[case.shape]["vocab_size"])
        return torch.randint(2, high, (count,), generator=generator).tolist()

    return [
        Row(str(i), Tree(ids(half), tuple([*ids(case.length - half - 1), 0] for _ in range(2))))
        for i in range(n)
    ]


def run_align(case: Case, args: argparse.Namespace, meter: Meter, dtype: torch.dtype) -> dict[str, Any]:
    """Train with our trainer; include the reference pass in the peak, and report it apart in time."""
    model = build(case.shape, case.nf4, args.device, dtype)
    built = meter.gigabytes()
    without_dropout(model)  # not eval(): on the CPU that repacks 4-bit weights for another, coarser product
    gap = disagreement(model)
    make_packed(model)
    params = {
        "max_steps": args.steps,
        "per_device_train_batch_size": case.pairs,
        "gradient_accumulation_steps": 1,
        "max_length": case.length,
        "lr_scheduler_type": "constant",
        "share_prompt": not args.no_share,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
        "beta": 0.1,
        "r": 16,
        "lora_alpha": 32,
    }
    recipe = resolve("dpo", case.nf4, params)
    hardware = Hardware(args.device, dtype, args.optim, args.device == "cuda")
    peft_model = add_adapter(model, recipe, None)
    with tempfile.TemporaryDirectory() as scratch:
        run = RunDirectory(scratch)
        spec = RunSpec("dpo", "random", recipe.to_dict(), "s-random")
        session = Session(run, spec, recipe, hardware, ProgressLog(run), StopSwitch(run))
        rows = make_rows(case, case.pairs * args.steps)
        without_dropout(peft_model)
        began = time.perf_counter()
        reference: list[list[float]] = [[] for _ in rows]
        with peft_model.disable_adapter():
            for index, sums in score_rows(
                peft_model, rows, recipe.share_prompt, autocast=session.autocast, tokens=args.reference_tokens
            ):
                reference[index] = sums
        reference_seconds = time.perf_counter() - began
        timer, times = step_timer(meter)
        tokenizer = word_tokenizer(int(SHAPES[case.shape]["vocab_size"]))

        def make(watch: Any) -> Any:
            trainer = dpo.build(session, peft_model, tokenizer, rows, reference, watch)
            trainer.add_callback(timer)
            return trainer

        trained = train(session, make, peft_model)
        losses = [row["loss"] for row in trained.watch.history]
    found = _figures(case, args, times, meter)
    return {
        "built": built,
        **found,
        "reference_seconds_per_step": round(reference_seconds / args.steps, 3),
        "losses": [round(x, 4) for x in losses],
        "packed_against_plain": gap,
        "notes": session.notes,
    }


def run_trl(case: Case, args: argparse.Namespace, meter: Meter, dtype: torch.dtype) -> dict[str, Any]:
    """Train the same rows with plain TRL, its defaults but for batch, optimiser and logging."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    model = build(case.shape, case.nf4, args.device, dtype)
    rows = make_rows(case, case.pairs * args.steps)

    def text(ids: Any) -> str:
        return " ".join(f"w{i}" for i in ids)

    data = [
        {
            "prompt": text(row.tree.prompt) + " ",
            "chosen": text(row.tree.answers[0][:-1]) + " ",
            "rejected": text(row.tree.answers[1][:-1]) + " ",
        }
        for row in rows
    ]
    timer, times = step_timer(meter)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(
                output_dir=scratch,
                max_steps=args.steps,
                per_device_train_batch_size=case.pairs,
                max_length=case.length,
                optim=args.optim,
                logging_steps=1,
                learning_rate=1e-4,
                lr_scheduler_type="constant",
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                bf16=args.device == "cuda",
                use_cpu=args.device == "cpu",
            ),
            train_dataset=Dataset.from_list(data),
            processing_class=word_tokenizer(int(SHAPES[case.shape]["vocab_size"])),
            peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
            callbacks=[timer],
        )
        lengths = {len(r["prompt_ids"]) + len(r["chosen_ids"]) for r in trainer.train_dataset}
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        **_figures(case, args, times, meter),
        "losses": [round(x, 4) for x in losses],
        "row_tokens": sorted(lengths),
    }


def _figures(case: Case, args: argparse.Namespace, times: list[float], meter: Meter) -> dict[str, Any]:
    steps = [b - a for a, b in itertools.pairwise(times[1:])]
    seconds = sorted(steps)[len(steps) // 2]
    return {
        "step_seconds": round(seconds, 4),
        "tokens_per_second": round(2 * case.pairs * case.length / seconds, 1),
        **meter.gigabytes(),
    }


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Measure the device's rate of large matrix products in FLOP/s."""
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    meter = Meter(device)
    best = 0.0
    for _ in range(5):
        meter.synchronize()
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        meter.synchronize()
        best = max(best, 20 * n**3 / (time.perf_counter() - began))
    return best


def versions() -> dict[str, str]:
    names = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = getattr(sys.modules.get(name), "__version__", "unknown")
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


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


def contestant(args: argparse.Namespace) -> int:
    """Train one contestant in this process; write the figures or the error."""
    name, who, out = args.contestant
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    meter = Meter(args.device)
    began = time.perf_counter()
    try:
        result = (run_align if who == "align" else run_trl)(CASES[name], args, meter, dtype)
    except Exception as error:
        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {error}"[:500], **meter.gigabytes()}
    result["wall_seconds"] = round(time.perf_counter() - began, 1)
    Path(out).write_text(json.dumps(result))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(DEFAULT), help=f"of {', '.join(CASES)}")
    parser.add_argument("--steps", type=int, default=5, help="optimiser steps (the first is not timed)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--optim", default="adamw_8bit", help="paged_adamw_8bit is what a recipe chooses on CUDA"
    )
    parser.add_argument("--no-share", action="store_true", help="compute each prompt twice")
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
        for who in ("align", "trl"):
            if who == "trl" and (args.no_trl or not case.against_trl):
                continue
            result[who] = alone(name, who)
            if "tokens_per_second" in result[who]:
                # Forward and backward to the inputs: 4 FLOPs a parameter and token; no gradient of frozen weights.
                useful = 4 * count * result[who]["tokens_per_second"]
                result[who]["share_of_matrix_rate"] = round(useful / rate, 3)
        if (
            {"align", "trl"} <= result.keys()
            and "error" not in result["align"]
            and "error" not in result["trl"]
        ):
            result["speedup"] = round(result["trl"]["step_seconds"] / result["align"]["step_seconds"], 2)
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
