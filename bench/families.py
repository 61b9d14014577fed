"""Families of base models on a real engine: trained, served, published, rolled back.

    python -m bench.families [NAME ...] [--quick] [--at-once N]

For each family (default: all of tests/support/families.py; `--quick`: one) a tiny random model with its configuration
class and its style of chat template is trained for two steps of DPO, served, and its adapter published with the parity
test of the platform. Columns: the prompt's tokens as the engine renders them equal those of training; the adapter is
published; its answers differ from the base's, or their probabilities do; after the withdrawal the base answers as before.
Ends with one line of JSON whose figure is the number of families that failed any of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoTokenizer

import align.training.pipeline  # noqa: F401  # imported once, before the workers are forked
from align.recipe.recipe import resolve
from align.run_directory import RunDirectory, RunSpec
from align.training.texts.chat_template import render
from align.training.texts.data import encode
from align.worker import main as work
from bench.versions import versions
from serve.adapters.publishing import publish, withdraw
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.engine.spec import EngineSpec
from store.values import Probe
from tests.support.families import FAMILIES, make_family
from tests.support.words import sentence

PARAMS = {"max_steps": 2, "max_length": 256, "per_device_train_batch_size": 2, "heldout_limit": 2, "r": 8}
MIN_EFFECT = 0.01
"""Mean distance of the adapter's log-probabilities from the base's, from which they differ, nats per token."""
CHAT = [
    {"role": "user", "content": "Name a bird."},
    {"role": "assistant", "content": "A wren."},
    {"role": "user", "content": "And another one, please."},
]


def train(name: str, model: Path, root: Path) -> RunDirectory:
    """Train two steps in a fork of this process; raises RuntimeError with the worker's reason."""
    rng = random.Random(0)
    rows = [
        {
            "pair_id": f"{name}-{number}",
            "prompt": [{"role": "user", "content": sentence(rng, 5)}],
            "chosen": sentence(rng, 3),
            "rejected": sentence(rng, 9),
            "weight": 1.0,
        }
        for number in range(6)
    ]
    run = RunDirectory(root / f"run-{name}")
    run.path.mkdir()
    for path, part in ((run.train, rows[:4]), (run.heldout, rows[4:])):
        pq.write_table(pa.Table.from_pylist(part), path)
    recipe = resolve("dpo", False, {**PARAMS, "learning_rate": 1e-2})
    run.write(RunSpec(method="dpo", base_model=str(model), recipe=recipe.to_dict(), snapshot="s-families"))
    process = multiprocessing.get_context("fork").Process(target=_work, args=(str(run.path),))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"training: {(run.path / 'error.json').read_text()}")
    return run


def _work(path: str) -> None:
    sys.exit(work([path]))


async def answer(engine: Engine, model: str) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt as the engine renders it, and those of a greedy answer."""
    body = {
        "model": model,
        "messages": CHAT,
        "max_tokens": 12,
        "temperature": 0,
        "return_token_ids": True,
        "ignore_eos": True,
    }
    found: Any = await engine.request("POST", "/v1/chat/completions", body, timeout=300)
    return list(found["prompt_token_ids"]), list(found["choices"][0]["token_ids"])


async def serve(
    engine: Engine, model: Path, run: RunDirectory, pool: EnginePool, root: Path
) -> dict[str, Any]:
    """Publish the run's adapter on the family's engine, compare, and withdraw it."""
    base = engine.spec.base
    await engine.wait_ready(600)
    tokenizer = AutoTokenizer.from_pretrained(model)
    trained = encode(tokenizer, [render(tokenizer, CHAT, True)])[0]
    rendered, before = await answer(engine, base)
    published = await publish(
        run.path / "adapter", root / "adapters", pool, base, Probe.from_json(run.probe() or {})
    )
    _, tuned = await answer(engine, published.name)
    await withdraw(published.name, pool, base, root / "adapters")
    _, after = await answer(engine, base)
    parity = published.parity
    return {
        "renders_alike": rendered == list(trained),
        "published": True,
        "parity": parity.mean_abs if parity else None,
        "base_differs_by": parity.base_mean_abs if parity else None,
        "effect": parity.from_base if parity else None,
        "answers_differ": tuned != before,
        "rolled_back": after == before,
        "layers": ", ".join(published.facts.target_modules),
    }


async def batch(names: list[str], root: Path) -> list[dict[str, Any]]:
    """Train and serve some families, their engines side by side."""
    found, runs, specs = [], {}, []
    for name in names:
        model = make_family(root / name, name)
        row: dict[str, Any] = {"family": name, "config": FAMILIES[name].config}
        found.append(row)
        try:
            runs[name] = train(name, model, root)
        except RuntimeError as error:
            row["fault"] = str(error)
            print(json.dumps(row), flush=True)
            continue
        specs.append(
            EngineSpec(
                name,
                name,
                str(model),
                kv_cache_memory_bytes="64M",
                args={"max-model-len": 1024, "max-num-seqs": 8},
                max_loras=2,
                max_lora_rank=16,
                threads=1,
                nice=0,
            )
        )
    pool = EnginePool(specs, root)
    await pool.start()
    try:
        for row in found:
            if row["family"] not in runs:
                continue
            engine = pool.engines(row["family"])[0]
            try:
                row |= await serve(engine, root / row["family"], runs[row["family"]], pool, root)
            except Exception as error:
                row["fault"] = f"{type(error).__name__}: {error}"
            print(json.dumps(row), flush=True)
    finally:
        await pool.stop()
    return found


def is_good(row: dict[str, Any]) -> bool:
    """Return whether everything held."""
    held = all(row.get(name) for name in ("renders_alike", "published", "rolled_back"))
    return held and (row["answers_differ"] or (row["effect"] or 0.0) > MIN_EFFECT)


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"families: {', '.join(FAMILIES)}")
    parser.add_argument("--quick", action="store_true", help="one family")
    parser.add_argument("--at-once", type=int, default=3, help="engines side by side")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in FAMILIES]:
        parser.error(f"no family {unknown[0]!r}; accepted: {', '.join(FAMILIES)}")
    names = args.names or (["qwen3"] if args.quick else list(FAMILIES))
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for start in range(0, len(names), args.at_once):
            folder = Path(scratch) / str(start)
            folder.mkdir()
            found += asyncio.run(batch(names[start : start + args.at_once], folder))
    bad = [row["family"] for row in found if not is_good(row)]
    print(
        json.dumps(
            {
                "name": "families",
                "figure": len(bad),
                "unit": "families that failed",
                "budget": 0,
                "ok": not bad,
                "families": len(found),
                "failed": bad,
                "versions": versions("torch", "transformers", "peft", "vllm"),
            }
        )
    )
    return 0 if not bad else 1


if __name__ == "__main__":
    sys.exit(main())
