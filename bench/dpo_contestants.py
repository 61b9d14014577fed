"""The contestants of bench/dpo.py, each in its own process: `python bench/dpo_contestants.py JOB OUT`.

A job is JSON: `who` (align or trl), `method` (dpo or sft), `model`, `train`, `heldout`, `params`, `options`, `lock`,
`state`, `until`. Steps of several processes are taken one at a time, by a lock that is handed over, so that all meet the
same machine. A contestant stops after step `until` with a checkpoint in `state`, from which the next call goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LENGTH = 128
BATCH = 4


class Turn:
    """Run the steps of several processes one at a time, and time each."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.file = open(job["lock"], "w")  # noqa: SIM115 (held as long as the process lives)
        self.until = int(job["until"])
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
        """Return a trainer callback that takes a turn for each step and ends the part after its last."""
        from transformers import TrainerCallback

        turn = self

        class Steps(TrainerCallback):
            def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
                fcntl.flock(turn.file, fcntl.LOCK_EX)
                self.began = time.perf_counter()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                turn.seconds.append(time.perf_counter() - self.began)
                fcntl.flock(turn.file, fcntl.LOCK_UN)
                if state.global_step >= turn.until:
                    control.should_save = control.should_training_stop = True
                time.sleep(0.05)

        return Steps()


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def contestant_align(job: dict[str, Any]) -> dict[str, Any]:
    """Train with `align` as the worker does; at the end measure the held-out pairs."""
    sys.path.insert(0, str(ROOT))
    import torch

    from align.progress import ProgressLog, StopSwitch
    from align.recipe.recipe import resolve
    from align.run_directory import RunDirectory, RunSpec
    from align.training.methods import dpo, sft
    from align.training.model import add_adapter, choose, load_base, load_tokenizer, without_dropout
    from align.training.packed import logprobs
    from align.training.packed.packed_model import make_packed, make_plain
    from align.training.scoring import likelihood_measures, preference_measures, score_rows
    from align.training.session import Session
    from align.training.trainer import train

    options, method = dict(job["options"]), job["method"]
    if options.pop("whole_logits", False):
        logprobs.CPU_CHUNK = 1 << 30
    grouped = options.pop("grouped", False)
    peers = {"beta": 0.1} if method == "dpo" else {}  # TRL's default
    recipe = resolve(method, params={**peers, **job["params"], "max_length": LENGTH, **options})
    hardware = choose(recipe)
    base = load_base(job["model"], recipe, hardware)
    (make_packed if recipe.packing else make_plain)(base)
    model = add_adapter(base, recipe, None)
    tokenizer = load_tokenizer(job["model"])
    rows, held = (read(job[name], tokenizer, method) for name in ("train", "heldout"))
    if grouped:
        rows.sort(key=lambda row: row.tokens)
    turn = Turn(job)
    without_dropout(model)

    def scores(subset: list[Any]) -> list[list[float]]:
        out: list[list[float]] = [[] for _ in subset]
        for index, sums in score_rows(model, subset, options.get("share_prompt", True)):
            out[index] = sums
        return out

    reference: list[list[float]] = []
    held_reference: list[list[float]] = []
    reference_seconds = 0.0
    if method == "dpo":
        with turn.taken(), model.disable_adapter():
            began = time.perf_counter()
            reference = scores(rows)
            reference_seconds = time.perf_counter() - began
            held_reference = scores(held)
    run = RunDirectory(Path(job["state"]))
    spec = RunSpec(method, job["model"], recipe.to_dict(), "s-bench")
    session = Session(run, spec, recipe, hardware, ProgressLog(run), StopSwitch(run))

    def build(watch: Any) -> Any:
        if method == "dpo":
            trainer: Any = dpo.build(session, model, tokenizer, rows, reference, watch)
        else:
            trainer = sft.build(session, model, tokenizer, rows, watch)
        trainer.add_callback(turn.callback())
        return trainer

    train(session, build, model)
    losses = {row["step"]: row["loss"] for row in run.progress() if row["kind"] == "step"}
    shared = sum(len(row.tree.prompt) for row in rows) if method == "dpo" and recipe.share_prompt else 0
    result: dict[str, Any] = {
        "seconds": turn.seconds,
        "reference_seconds": reference_seconds,
        "losses": [losses[step] for step in sorted(losses)],
        "tokens": sum(row.tokens for row in rows),
        "computed_tokens": sum(row.tokens for row in rows) - shared,
        "threads": torch.get_num_threads(),
        "peak_memory_bytes": peak_memory(),
    }
    if held and job["last"]:
        without_dropout(model)
        with turn.taken():
            after = scores(held)
        result["heldout"] = (
            preference_measures(held, after, held_reference, recipe.beta)
            if method == "dpo"
            else likelihood_measures(held, after)
        )
    return result


def read(pairs: list[dict[str, Any]], tokenizer: Any, method: str) -> list[Any]:
    """Return the pairs as the worker's rows."""
    if not pairs:
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    from align.training.texts.data import read_rows

    columns = [{**row, "completion": row["chosen"]} for row in pairs]
    with tempfile.TemporaryDirectory() as scratch:
        pq.write_table(pa.Table.from_pylist(columns), Path(scratch) / "rows.parquet")
        return read_rows(Path(scratch) / "rows.parquet", method, tokenizer, LENGTH)[0]


def contestant_trl(job: dict[str, Any]) -> dict[str, Any]:
    """Train with plain TRL: its defaults, but float32 on the CPU and the same LoRA, batch and schedule."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    params, method = job["params"], job["method"]
    turn = Turn(job)
    names = ("chosen", "rejected") if method == "dpo" else ("completion",)

    def data(pairs: list[dict[str, Any]]) -> Dataset:
        rows = [{**row, "completion": row["chosen"]} for row in pairs]
        answers = [{n: [{"role": "assistant", "content": row[n]}] for n in names} for row in rows]
        return Dataset.from_list([{"prompt": r["prompt"], **a} for r, a in zip(pairs, answers, strict=True)])

    config, trainer_class = (DPOConfig, DPOTrainer) if method == "dpo" else (SFTConfig, SFTTrainer)
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(job["model"]),
        args=config(
            output_dir=job["state"],
            **{k: v for k, v in params.items() if k not in ("r", "lora_alpha")},
            **job["options"],
            max_length=LENGTH,
            per_device_eval_batch_size=BATCH,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="steps",
            save_steps=100_000,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=data(job["train"]),
        eval_dataset=data(job["heldout"]) if job["heldout"] else None,
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=params["r"], lora_alpha=params["lora_alpha"], target_modules="all-linear"
        ),
        callbacks=[turn.callback()],
    )
    before = sorted(Path(job["state"]).glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    trainer.train(resume_from_checkpoint=str(before[-1]) if before else None)
    result: dict[str, Any] = {
        "seconds": turn.seconds,
        "reference_seconds": 0.0,
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "threads": torch.get_num_threads(),
        "peak_memory_bytes": peak_memory(),
    }
    if job["heldout"] and job["last"]:
        sys.path.insert(0, str(ROOT))
        from align.stats import wilson

        n = len(job["heldout"])
        with turn.taken():
            measured = trainer.evaluate()
        result["heldout"] = {"n": n, "loss": measured["eval_loss"]}
        if method == "dpo":
            result["heldout"]["reward_accuracy"] = wilson(measured["eval_rewards/accuracies"] * n, n)
    return result


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    Path(job["state"]).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_DATASETS_CACHE", str(Path(job["state"]) / "datasets"))
    result = (contestant_trl if job["who"] == "trl" else contestant_align)(job)
    Path(sys.argv[2]).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
