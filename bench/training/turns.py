"""Five turns of training on new votes: from the base with all pairs, or on from the last adapter?

    python -m bench.training.turns [--quick] [--state DIR] [--minutes 4]    all arms; call again until the table comes
    python -m bench.training.turns --arm base --arm stable --turns 3        some arms
    python -m bench.training.turns --random small                           random weights in place of SmolLM2-135M

Each turn brings new pairs, preferred by the rule "shorter" (bench/training/preference_runs.py). The arms:

* base: a new adapter on the base, from all pairs so far; the reference is the base;
* stable: on from the last turn's adapter with all pairs again; the reference is that adapter (the default until now);
* replay: on from the last turn's adapter with the new pairs and a fifth of the old ones.

After each turn: KL from the base on answers that it gives to neutral prompts, and held-out reward accuracy against the
base. The first turn is the same in all arms and is trained once. Runs are the worker's and stay in --state, where a call
that was cut short goes on. The figure is the KL of `stable` over that of `base` after the last turn. Exit status 75: more
calls are needed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from bench_models import CACHE, embedded, random_directory  # noqa: E402

from bench.training.jobs import Pair  # noqa: E402
from bench.training.preference_runs import Meter, make_pairs, train  # noqa: E402

ARMS = ("base", "stable", "replay")
REPLAY = 0.2
UNFINISHED = 75
PARAMS = {
    "learning_rate": 3e-4,
    "warmup_steps": 0,
    "beta": 0.1,
    "r": 16,
    "lora_alpha": 32,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "save_steps": 5,
}
"""What the runs are trained with, whatever the defaults are: few pairs, and two of them a step."""


def rows_of(arm: str, turn: int, pairs: list[Pair], per_turn: int) -> list[Pair]:
    """Return what turn `turn` (from 1) of an arm trains on."""
    old, new = pairs[: (turn - 1) * per_turn], pairs[(turn - 1) * per_turn : turn * per_turn]
    if arm == "replay":
        old = random.Random(turn).sample(old, round(REPLAY * len(old)))
    return old + new


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two turns of two pairs")
    parser.add_argument("--arm", choices=ARMS, action="append")
    parser.add_argument("--turns", type=int)
    parser.add_argument("--per-turn", type=int, help="new pairs per turn")
    parser.add_argument("--held", type=int, help="held-out pairs")
    parser.add_argument(
        "--random", help="a shape of bench/random_model.py with random weights, in place of SmolLM2"
    )
    parser.add_argument("--state", type=Path, default=CACHE / "turns")
    parser.add_argument("--minutes", type=float, help="begin no turn after this time")
    parser.add_argument("--prompts", type=Path, help="a file of bench/training/ablation.py --write-prompts")
    parser.add_argument("--param", action="append", default=[], help="NAME=VALUE of the recipe")
    args = parser.parse_args()
    per_turn, held, turns, neutral = (2, 4, 2, 2) if args.quick else (6, 16, 5, 8)
    turns, per_turn, held = args.turns or turns, args.per_turn or per_turn, args.held or held
    params: dict[str, Any] = dict(PARAMS)
    params |= {name: json.loads(value) for name, value in (p.split("=", 1) for p in args.param)}
    began = time.monotonic()
    state: Path = args.state / (args.random or "smollm2") / ("quick" if args.quick else "full")
    if args.quick:
        shutil.rmtree(state, ignore_errors=True)
    model = embedded()
    pairs = make_pairs(model, held + turns * per_turn, args.prompts)
    if args.random:
        model = random_directory(args.random, args.state / args.random / "model", model)
    heldout, pairs = pairs[:held], pairs[held:]
    arms = args.arm or list(ARMS)
    meter = None
    for arm, turn in ((arm, turn) for turn in range(1, turns + 1) for arm in arms):
        place = state / "first" if turn == 1 else state / arm / str(turn)
        if (place / "measured.json").exists():
            continue
        if args.minutes and time.monotonic() - began > 60 * args.minutes:
            print(f"# stopped before {arm}, turn {turn}; call again", file=sys.stderr)
            return UNFINISHED
        start = None
        if arm != "base" and turn > 1:
            start = (state / "first" if turn == 2 else state / arm / str(turn - 1)) / "adapter"
        rows = rows_of(arm, turn, pairs, per_turn)
        report = train(place, model, rows, params, state / "cache", start)
        meter = meter or Meter(model, heldout, neutral, state / "cache")
        found = {
            "pairs": len(rows),
            "steps": report["steps"],
            "seconds": report["seconds"],
            "reference": report["reference"]["kind"],
            **dataclasses.asdict(meter.measure(place / "adapter")),
        }
        (place / "measured.json").write_text(json.dumps(found))
        print(f"# {arm} {turn}: {json.dumps(found)}", file=sys.stderr)
    table = {
        arm: [
            json.loads((state / (f"{arm}/{t}" if t > 1 else "first") / "measured.json").read_text())
            for t in range(1, turns + 1)
        ]
        for arm in arms
    }
    for rows in table.values():
        compare(rows)
    show(table)
    last = {arm: rows[-1]["kl"] for arm, rows in table.items()}
    figure = last["stable"] / last["base"] if {"stable", "base"} <= set(last) else None
    print(
        json.dumps(
            {
                "name": "turns",
                "figure": None if figure is None else round(figure, 3),
                "unit": "KL from the base after the last turn, on from stable over from base",
                "budget": None,
                "ok": True,
                "turns": table,
                "params": params,
                "dtype": params.get("dtype", "auto"),
                "model": args.random or "smollm2-135m-instruct",
                "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
            }
        )
    )
    return 0


def compare(rows: list[dict[str, Any]]) -> None:
    """Replace the margins of each turn by the reward accuracy against the turn before, which a gate would see as stable."""
    before: list[float] | None = None
    for row in rows:
        margins = row.pop("margins")
        gained = [new - old for new, old in zip(margins, before or [0.0] * len(margins), strict=True)]
        row["against_last"] = sum(gain > 0 for gain in gained) / len(gained)
        before = margins


def show(table: dict[str, list[dict[str, Any]]]) -> None:
    """Print one line per arm and turn."""
    print(
        "arm     turn  pairs  steps  KL/token  KL back  accuracy (95%)       margin  vs last  chosen/token  seconds"
    )
    for arm, rows in table.items():
        for turn, row in enumerate(rows, 1):
            share = f"{row['accuracy']:.3f} ({row['accuracy_low']:.2f}, {row['accuracy_high']:.2f})"
            print(
                f"{arm:<7} {turn:>4}  {row['pairs']:>5}  {row['steps']:>5}  {row['kl']:>8.4f}  {row['kl_back']:>7.4f}  "
                f"{share:<19} {row['margin']:>7.2f}  {row['against_last']:>7.2f}  {row['chosen']:>12.3f}  "
                f"{row['seconds']:>7.0f}"
            )


if __name__ == "__main__":
    sys.exit(main())
