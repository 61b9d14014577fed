"""One DPO run on one card against the same on several: rows per second of the worker, DDP and FSDP.

    python -m bench.training.cards [--random 7b | --model DIR] [--no-qlora] [--arms one,ddp,fsdp] [--steps 12]

Each arm is one worker (`python -m align.worker`) on rows of one length, so that each step does the same work; a step of
`--processes` processes holds that many times the rows. The median step after the first `WARM_UP` counts, as the run's own
progress has them. A worker is stopped after its last step: the probe and held-out measures are not part of this. Prints a
line of JSON per arm; the last line's figure is the most rows per second of several processes over those of one.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.bench_models import embedded, random_directory
from bench.training.jobs import Pair, open_job
from bench.versions import versions

BUDGET = 1.8
WARM_UP = 3
"""Steps that compile kernels and fill the allocator."""
WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "they",
    "be",
)


def texts(rows: int, words: int) -> list[Pair]:
    """Return pairs of random common words, a token each: a prompt and two answers of `words` each."""
    draw = random.Random(0)

    def message(role: str) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(draw.choices(WORDS, k=words))}]

    return [
        {"prompt": message("user"), "chosen": message("assistant"), "rejected": message("assistant"), "weight": 1.0}
        for _ in range(rows)
    ]  # fmt: skip


def steps_of(
    run: Path, worker: subprocess.Popen[bytes], wanted: int, timeout_s: float
) -> list[dict[str, Any]]:
    """Return the step rows of a run once `wanted` are there; raise SystemExit when the worker ends before."""
    progress, end = run / "progress.jsonl", time.monotonic() + timeout_s
    while True:
        lines = progress.read_text().splitlines() if progress.exists() else []
        rows = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        steps = [row for row in rows if row["kind"] == "step"]
        if len(steps) >= wanted:
            return steps
        if worker.poll() is not None or time.monotonic() > end:
            error = run / "error.json"
            told = error.read_text() if error.exists() else "\n".join(lines[-5:])
            raise SystemExit(f"{len(steps)} of {wanted} steps, exit status {worker.poll()}: {told}")
        time.sleep(0.2)


def measure(
    run: Path, model: Path, qlora: bool, processes: int, distributed: str, steps: int, batch: int, words: int
) -> dict[str, Any]:
    """Train one arm until its last step; return its figures."""
    from align.recipe.recipe import resolve
    from align.run_directory import RunSpec

    params = {
        "max_steps": steps, "num_train_epochs": 100.0, "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": 1,
        "max_length": 4 * words, "heldout_limit": 0, "logging_steps": 1, "save_steps": 10 * steps,
        "num_processes": processes, "distributed": distributed, "optim": "adamw_8bit" if qlora else "adamw_torch",
    }  # fmt: skip
    spec = RunSpec("dpo", str(model), resolve("dpo", qlora, params).to_dict(), "s-bench")
    open_job(run, spec, texts(2 * batch * processes, words)).log.close()
    began = time.monotonic()
    with (run.parent / f"{run.name}.log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, "-m", "align.worker", str(run)], stdout=log, stderr=log)
        try:
            rows = steps_of(run, worker, steps, 900)
        finally:
            worker.terminate()
            try:
                worker.wait(60)
            except subprocess.TimeoutExpired:
                worker.kill()
    ends = [row["time"] for row in rows]
    step_s = statistics.median(b - a for a, b in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False))
    return {
        "processes": processes, "distributed": distributed, "step_s": round(step_s, 4),
        "rows_per_s": round(batch * processes / step_s, 2), "last_loss": round(rows[-1]["loss"], 4),
        "peak_gb": round(rows[-1]["memory_bytes"] / 1e9, 2), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a Hugging Face directory; default: SmolLM2-135M-Instruct")
    parser.add_argument("--random", help="a shape of bench/random_model.py with random weights")
    parser.add_argument("--no-qlora", dest="qlora", action="store_false", help="LoRA on the unquantised base")
    parser.add_argument("--arms", default="one,ddp,fsdp", help="which, with commas between")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8, help="pairs per process and step")
    parser.add_argument("--words", type=int, default=170, help="of a prompt and of an answer")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = args.model or embedded()
        if args.random:
            model = random_directory(args.random, Path(scratch) / f"random-{args.random}", model)
        seen = {}
        for arm in args.arms.split(","):
            processes, distributed = (1, "ddp") if arm == "one" else (args.processes, arm)
            seen[arm] = measure(
                Path(scratch) / arm, model.absolute(), args.qlora, processes, distributed, args.steps, args.batch, args.words
            )  # fmt: skip
            print(json.dumps({"arm": arm, **seen[arm]}), flush=True)
    several = max((row["rows_per_s"] for arm, row in seen.items() if arm != "one"), default=0.0)
    ratio = round(several / seen["one"]["rows_per_s"], 2) if "one" in seen else None
    print(json.dumps({
        "name": "cards", "figure": ratio, "unit": f"x rows/s of one process, {args.processes} processes", "budget": BUDGET,
        "ok": ratio is not None and ratio >= BUDGET, "versions": versions("torch", "trl", "peft", "bitsandbytes"),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
