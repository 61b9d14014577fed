"""Plans against measured runs on the CPU: peak memory of the worker, for several models and recipes.

    python bench/training/plan.py            seven (model, recipe) pairs
    python bench/training/plan.py --quick    two of them
    python bench/training/plan.py --device cuda [--cases "1b dpo;1b sft"]       on a GPU, its own cases

Each case is a run directory with random words as data, planned with `align.recipe.plan` and trained for two steps by
`python -m align.worker`; the measured peak is that of the whole process (ru_maxrss), from its report. On a GPU it is the
most that the card held beyond what others held before, and all cases run in this process. The models are
SmolLM2-135M-Instruct and shapes with random weights and its tokenizer. The figure is the largest relative error.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from tests.support.words import sentence  # noqa: E402


@dataclass(frozen=True)
class Case:
    """One model under one recipe."""

    shape: str
    method: str = "dpo"
    qlora: bool = False
    params: dict[str, Any] = field(default_factory=dict)


CASES = {
    "135m dpo": Case("135m", params={"max_length": 128}),
    "135m dpo, recomputed": Case(
        "135m", params={"max_length": 256, "per_device_train_batch_size": 8, "gradient_checkpointing": True}
    ),
    "135m dpo qlora": Case("135m", qlora=True, params={"max_length": 128}),
    "135m sft": Case("135m", "sft", params={"max_length": 256, "r": 64, "lora_alpha": 64}),
    "360m dpo": Case("360m", params={"max_length": 128, "per_device_train_batch_size": 2}),
    "135m kto": Case("135m", "kto", params={"max_length": 128}),
    "360m sft": Case("360m", "sft", params={"max_length": 128}),
}
QUICK = ("135m dpo", "135m sft")
_LONG = {"max_length": 512, "per_device_train_batch_size": 8}
ON_CUDA = {
    f"{shape} {method}{' qlora' if qlora else ''}": Case(shape, method, qlora, dict(_LONG))
    for shape, method, qlora in (
        ("135m", "dpo", False),
        ("1b", "dpo", False),
        ("7b", "dpo", True),
        ("7b", "dpo", False),
        ("1b", "sft", False),
        ("1b", "dpo", True),
        ("135m", "sft", True),
        ("7b", "sft", True),
        ("1b", "kto", False),
    )
}
STEPS = 3


def model_directory(shape: str, scratch: Path) -> Path:
    """Return a Hugging Face directory of that shape."""
    from bench_models import embedded, random_directory

    return embedded() if shape == "135m" else random_directory(shape, scratch / shape, embedded())


def rows(case: Case, n: int) -> list[dict[str, Any]]:
    """Return random sentences that fill about 0.8 of max_length, half of it prompt."""
    rng = random.Random(1)
    half = int(case.params["max_length"] * 0.4) - 8
    names = ("chosen", "rejected") if case.method == "dpo" else ("completion",)
    made = [{name: sentence(rng, half) for name in ("prompt", *names)} | {"weight": 1.0} for _ in range(n)]
    return [
        row | ({"label": number % 2 == 0} if case.method == "kto" else {}) for number, row in enumerate(made)
    ]


def prepare(name: str, case: Case, scratch: Path, steps: int) -> tuple[Any, Path, Any]:
    """Write a case's run directory; return it, the model's directory and the recipe."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from align.recipe.recipe import resolve
    from align.run_directory import RunDirectory, RunSpec

    model = model_directory(case.shape, scratch)
    recipe = resolve(
        case.method, case.qlora, {**case.params, "max_steps": steps, "gradient_accumulation_steps": 1}
    )
    run = RunDirectory(scratch / name.replace(" ", "-"))
    run.path.mkdir()
    pq.write_table(pa.Table.from_pylist(rows(case, steps * recipe.per_device_train_batch_size)), run.train)
    run.write(RunSpec(case.method, str(model), recipe.to_dict(), "s-bench"))
    return run, model, recipe


def measure(name: str, case: Case, scratch: Path) -> dict[str, Any]:
    """Plan and train one case on the CPU."""
    from align.recipe.plan import measure_rows, plan

    run, model, recipe = prepare(name, case, scratch, 2)
    found = plan(model, recipe, measure_rows(run.train, model, case.method), "cpu")
    with (run.path / "worker.log").open("w") as log:
        command = [sys.executable, "-m", "align.worker", str(run.path)]
        status = subprocess.run(command, stdout=log, stderr=log, cwd=ROOT, check=False).returncode
    report = run.report()
    if status or report is None:
        raise SystemExit(f"{name}: status {status}\n{(run.path / 'worker.log').read_text()[-2000:]}")
    return compared(name, found, report, report["peak_memory_bytes"])


def measure_on_cuda(name: str, case: Case, scratch: Path, others: float) -> dict[str, Any]:
    """Plan and train one case on a GPU; `others` are the bytes that other processes hold of it, all the time.

    In this process, which saves the worker's imports; what an earlier case left in the allocator is given back before.
    """
    import torch

    from align.recipe.plan import measure_rows, plan
    from align.worker import main as work

    run, model, recipe = prepare(name, case, scratch, STEPS)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    left = torch.cuda.memory_reserved()
    total, used = card_bytes()
    found = plan(model, recipe, measure_rows(run.train, model, case.method), "cuda", total - used)
    with peak_of_card() as peak:
        status = work([str(run.path)])
    report = run.report()
    if status or report is None:
        reason = run.path / "error.json"
        said = reason.read_text() if reason.exists() else ""
        return {"case": name, "error": None, "fault": f"status {status} {said}"[:500]}
    row = compared(name, found, report, peak[0] - others - left)
    return {
        **row,
        "allocated_gb": round(report["peak_memory_bytes"] / 1e9, 3),
        "left_gb": round(left / 1e9, 3),
    }


@contextlib.contextmanager
def peak_of_card() -> Iterator[list[float]]:
    """Give the max bytes that the card held during the block, as the one value of a list."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], card_bytes()[1])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def compared(name: str, found: Any, report: dict[str, Any], measured: float) -> dict[str, Any]:
    """Return a plan beside what was measured."""
    return {
        "case": name,
        "planned_gb": round(found.total / 1e9, 3),
        "measured_gb": round(measured / 1e9, 3),
        "error": round(found.total / measured - 1, 3),
        "parts_gb": {part: round(size / 1e9, 3) for part, size in found.parts.items()},
        "planned_seconds": round(found.seconds, 1),
        "training_seconds": round(report["training_seconds"], 1),
        "whole_seconds": round(report["seconds"], 1),
    }


def card_bytes() -> tuple[float, float]:
    """Return the first card's memory and how much of it is used, in bytes."""
    from common.gpu_cards import read_cards

    card = read_cards()[0]
    return float(card.total), float(card.total - card.free)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=" and ".join(QUICK))
    parser.add_argument("--cases", help="some of: " + "; ".join((*CASES, *ON_CUDA)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    cases: dict[str, Case] = CASES
    measure_case: Callable[[str, Case, Path], dict[str, Any]] = measure
    if args.device == "cuda":
        from align.worker import ENVIRONMENT

        os.environ.update(ENVIRONMENT)
        cases = ON_CUDA
        # Before this process uses the card: what others hold of it.
        measure_case = partial(measure_on_cuda, others=card_bytes()[1])
    names = args.cases.split(";") if args.cases else QUICK if args.quick else tuple(cases)
    scratch = Path(tempfile.mkdtemp(prefix="plan-"))
    errors = []
    try:
        for name in names:
            found = measure_case(name, cases[name], scratch)
            errors.append(abs(found["error"]) if found["error"] is not None else 1.0)
            print(json.dumps(found), flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    line = {
        "name": "plan",
        "figure": max(errors),
        "unit": "largest relative error of the planned peak",
        "budget": 0.15,
        "ok": max(errors) <= 0.15,
        "versions": {
            name: version(name) for name in ("torch", "transformers", "trl", "peft", "bitsandbytes")
        },
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
