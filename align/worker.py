"""One training run, alone: `python -m align.worker RUN_DIR`, or `--warm` to do the imports now and read the
directory from standard input once there is one.

Reads `run.toml` and the snapshot, writes progress, checkpoints, the adapter, the probe and at the very end
the report. Started again after any death it goes on from the newest whole checkpoint. Exit status 0:
`report.json` and `adapter/` are whole; 3: asked to stop, resumable; 1: `error.json` says why. It knows no
store and no server.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from align.errors import AlignError, DataError, DiskFull, ModelError, OutOfMemory, Stopped
from align.progress import NoLog, ProgressLog, StopSwitch
from align.recipe.fields import methods_of
from align.recipe.recipe import Recipe, resolve, with_flip_rate
from align.run_directory import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_SMALLER,
    EXIT_STOPPED,
    RunDirectory,
    RunSpec,
    adapter_identity,
    write_atomic,
)
from align.training import trackers
from align.training.distributed.launcher import HALVED, LAUNCHED, end_with_parent, run_together
from align.training.distributed.process_group import Crew, crew
from align.training.preload import wait_for_run

if TYPE_CHECKING:  # these import torch, which takes seconds; a request to stop is heard before
    from align.training.data import Row
    from align.training.scoring import Scores
    from align.training.session import Session

# With less than this free a checkpoint could not be written.
FULL_BYTES = 4 << 20
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets")


def main(argv: list[str] | None = None) -> int:
    """Train the run in the given directory and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m align.worker", description="Train one run.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("run_dir", type=Path, nargs="?")
    which.add_argument(
        "--warm", action="store_true", help="import first, then read RUN_DIR from standard input"
    )
    given = parser.parse_args(argv)
    for name, value in (
        ("HF_HUB_OFFLINE", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("TRL_EXPERIMENTAL_SILENCE", "1"),
    ):
        os.environ.setdefault(name, value)
    end_with_parent()
    stop = StopSwitch()
    stop.busy = True  # until the run's own progress can say that it was stopped
    with stop.listening():
        path = wait_for_run(stop) if given.warm else given.run_dir
        if path is None:
            return EXIT_STOPPED if stop.requested else EXIT_DONE
        return _run(RunDirectory(path), stop)


def _run(run: RunDirectory, stop: StopSwitch) -> int:
    ours = crew()
    try:
        spec = run.spec()
        if run.finished:
            return EXIT_DONE
        if not ours.first or os.environ.get(LAUNCHED):
            return _guarded(run, spec, stop, ours)
        with run.held():
            (run.path / "error.json").unlink(missing_ok=True)
            processes = int(spec.recipe["params"].get("num_processes", 1))
            if processes > 1 and not ours.together and not stop.requested:
                return run_together(run, processes, stop)
            return _guarded(run, spec, stop, ours)
    except AlignError as error:
        return _give_up(run, error.to_dict(), str(error))


def _guarded(run: RunDirectory, spec: RunSpec, stop: StopSwitch, ours: Crew) -> int:
    log = ProgressLog(run, lambda line: print(line, flush=True)) if ours.first else NoLog()
    try:
        with stop.obeyed_by(run):
            log.phase("loading")
            ours.join()
            _train(run, spec, log, stop, ours)
        ours.part()
    except Stopped:
        log.phase("stopped", checkpoints=len(run.checkpoints()))
        return EXIT_STOPPED
    except OutOfMemory as error:
        if ours.together and os.environ.get(LAUNCHED) and _can_halve(spec):
            return EXIT_SMALLER
        log.phase("failed", error=error.message)
        return _give_up(run, error.to_dict(), str(error))
    except AlignError as error:
        log.phase("failed", error=error.message)
        return _give_up(run, error.to_dict(), str(error))
    except Exception as error:
        traceback.print_exc()
        facts = {"kind": "error", "message": f"{type(error).__name__}: {error}", "hint": "see worker.log"}
        # torch and safetensors say in words of their own that they could not write.
        if getattr(error, "errno", None) == errno.ENOSPC or _disk_is_full(run):
            facts |= {"kind": DiskFull.kind, "hint": "free some space and resume"}
        return _give_up(run, facts, facts["message"])
    finally:
        log.close()
    return EXIT_DONE


def _disk_is_full(run: RunDirectory) -> bool:
    return shutil.disk_usage(run.path).free < FULL_BYTES


def _give_up(run: RunDirectory, facts: dict[str, Any], message: str) -> int:
    print(f"worker: {message}", file=sys.stderr)
    if run.path.is_dir() and (crew().first or run.error() is None):
        write_atomic(run.path / "error.json", json.dumps(facts, indent=2) + "\n")
    return EXIT_FAILED


def _can_halve(spec: RunSpec) -> bool:
    return int(spec.recipe["params"]["per_device_train_batch_size"]) >> int(os.environ.get(HALVED, 0)) > 1


def _train(run: RunDirectory, spec: RunSpec, log: ProgressLog, stop: StopSwitch, ours: Crew) -> None:
    started = time.monotonic()
    recipe, flips = with_flip_rate(Recipe.from_dict(spec.recipe), None)
    _require_files(spec)
    trackers.require(recipe)
    if spec.method == "dpo" and recipe.sft_epochs:
        spec = _sft_first(run, spec, recipe, log, stop, ours)

    from align.training import model as models
    from align.training.chat_template import differences
    from align.training.cpu.allocator import give_back, keep_pages, map_large_blocks
    from align.training.cpu.fused_lora import fuse
    from align.training.data import read_rows
    from align.training.session import Session, peak_memory

    fit = _trainer(spec.method)
    hardware = models.choose(recipe)
    (map_large_blocks if hardware.gradient_checkpointing else keep_pages)()
    session = Session(run, spec, recipe, hardware, log, stop, crew=ours)
    if flips:
        session.note(flips)
    for _ in range(int(os.environ.get(HALVED, 0))):
        session.halve_micro_batch("another process ran out of memory")
    tokenizer = models.load_tokenizer(spec.base_model)
    for difference in differences(tokenizer):
        session.note(difference)
    served: dict[str, Any] = {
        "system_prompt": spec.system_prompt,
        "template_options": spec.chat_template_kwargs,
    }
    rows, dropped = read_rows(run.train, spec.method, tokenizer, recipe.max_length, **served)
    if dropped.refused_by_template:
        session.note(
            f"{dropped.refused_by_template} rows were left out since the chat template refuses them: {dropped.examples[0]}"
        )
    if not rows:
        raise _nothing_to_train_on(dropped.to_dict())
    if spec.method == "kto" and len({row.desirable for row in rows}) == 1:
        raise DataError(
            f"all {len(rows)} answers were {'liked' if rows[0].desirable else 'disliked'}: KTO learns from both",
            "collect the other verdict too, or train on the liked answers with SFT",
        )
    held: list[Row] = []
    if run.heldout.is_file() and recipe.heldout_limit:
        held, _ = read_rows(
            run.heldout, spec.method, tokenizer, recipe.max_length, recipe.heldout_limit, **served
        )
    if recipe.qlora and hardware.device == "cpu":
        session.note("no CUDA device: the paged optimiser's nearest kin here is adamw_8bit, not paged")

    base = models.load_base(spec.base_model, recipe, hardware)
    _make_scorable(session, base)
    model = models.add_adapter(base, recipe, spec.start_adapter, spec.max_lora_rank)
    if ours.together:
        session.note(f"{ours.size} processes train together ({recipe.distributed})")
    if hardware.device == "cpu" and not session.sharded and (count := fuse(model)):
        session.note(f"{count} LoRA layers computed in one step each")
    reference_facts = _remember_reference(run, spec, recipe, ours)
    log.write("recipe", **recipe.to_dict(), hardware=hardware.to_dict())

    log.phase("reference" if spec.method != "sft" else "before", rows=len(rows), heldout=len(held))
    models.without_dropout(model)
    reference, held_reference = _reference(session, model, rows, held, reference_facts)
    before = _measure(session, held, held_reference, None)

    log.phase("training", trainable_parameters=models.trainable_parameters(model))
    clock = time.monotonic()
    with trackers.reporting(run.path):
        watch, facts = fit(session, model, tokenizer, rows, reference)
    training_seconds = time.monotonic() - clock
    if session.sharded:
        del model, base
        base = models.load_base(spec.base_model, recipe, hardware)
        _make_scorable(session, base)
        model = models.add_adapter(base, recipe, str(run.checkpoints()[-1]), spec.max_lora_rank)

    log.phase("after")
    models.without_dropout(model)
    after = _measure(session, held, _score(session, model, held, "after"), held_reference)

    if not ours.first:
        return
    log.phase("saving")
    unfinished = run.path / ".adapter.partial"
    shutil.rmtree(unfinished, ignore_errors=True)
    base_name = spec.base_name or spec.base_model
    models.save_adapter(model, unfinished, base_name)
    report = {
        "method": spec.method,
        "qlora": recipe.qlora,
        "steps": facts["steps"],
        "epochs": facts["epochs"],
        "seconds": 0.0,
        "training_seconds": training_seconds,
        "train": {
            "rows": len(rows),
            "dropped": dropped.to_dict(),
            "tokens_per_second": watch.tokens_seen / training_seconds,
            "rows_per_second": watch.rows_seen / training_seconds,
            **{
                k: v
                for k, v in (watch.history[-1] if watch.history else {}).items()
                if k not in ("total_steps", "step")
            },
        },
        "heldout": {"before": before, "after": after},
        "reference": reference_facts,
        "trainable_parameters": models.trainable_parameters(model),
        "recipe": recipe.to_dict(),
        "hardware": hardware.to_dict(),
        "snapshot": spec.snapshot,
        "notes": session.notes,
        "versions": {name: version(name) for name in LIBRARIES},
    }

    log.phase("probe")
    del model, base
    gc.collect()  # trainer and model refer to each other; the probe loads the base again
    give_back()
    _write_probe(session, tokenizer, held or rows, unfinished)
    report["peak_memory_bytes"] = peak_memory()
    report["seconds"] = time.monotonic() - started
    from align.training.model_card import write_card

    write_card(unfinished, spec, report)
    shutil.rmtree(run.adapter, ignore_errors=True)
    unfinished.rename(run.adapter)
    write_atomic(run.path / "report.json", json.dumps(report, indent=2, default=float) + "\n")
    log.phase("done", seconds=report["seconds"])


def _require_files(spec: RunSpec) -> None:
    if not (Path(spec.base_model) / "config.json").is_file():
        raise ModelError(
            f"{spec.base_model} is not a Hugging Face model directory", "prepare the base model first"
        )
    if spec.start_adapter and not (Path(spec.start_adapter) / "adapter_config.json").is_file():
        raise ModelError(f"the start adapter {spec.start_adapter} is missing")


def _nothing_to_train_on(dropped: dict[str, Any]) -> AlignError:
    reasons = ", ".join(f"{k}: {v}" for k, v in dropped.items() if v and k != "examples")
    examples = f"; {dropped['examples'][0]}" if dropped["refused_by_template"] else ""
    return DataError(
        f"no row is left to train on ({reasons or 'the file is empty'}{examples})",
        "raise max_length or add data",
    )


def _make_scorable(session: Session, base: Any) -> None:
    from align.training.model import without_dropout
    from align.training.packed.packed_model import TOLERANCE, disagreement, make_packed, make_plain, why_not

    without_dropout(base)
    reason = None if session.recipe.packing else "packing = false"
    reason = reason or why_not(base, session.recipe.max_length)
    if reason is None and (gap := disagreement(base)) > TOLERANCE[session.hardware.dtype]:
        reason = f"packed and plain scores differ by {gap:.3g}"
    if reason is None:
        make_packed(base)
    else:
        session.note(f"rows are padded, not packed: {reason}")
        make_plain(base)


def _remember_reference(run: RunDirectory, spec: RunSpec, recipe: Recipe, ours: Crew) -> dict[str, Any]:
    """Record what the reference is, and fail if this run began with another one."""
    from align.training import model as models

    facts: dict[str, Any] = {"kind": "base", "base": models.base_identity(spec.base_model, recipe)}
    if spec.start_adapter:
        facts |= {
            "kind": "adapter",
            "adapter": spec.start_adapter,
            "sha256": adapter_identity(spec.start_adapter),
        }
        if spec.start_sha256 and facts["sha256"] != spec.start_sha256:
            raise ModelError(
                f"the reference {spec.start_adapter} is not the adapter that the run was asked for: its weights' hash is "
                f"{facts['sha256'][:16]}, not {spec.start_sha256[:16]}",
                "restore its files, or start a new run",
            )
    path = run.path / "reference.json"
    if path.exists():
        earlier = json.loads(path.read_text())
        if earlier != facts:
            raise ModelError(
                f"the reference is not the one that this run began with: {earlier} then, {facts} now",
                "restore the model files, or start a new run",
            )
    elif ours.first:
        write_atomic(path, json.dumps(facts, indent=2) + "\n")
    ours.wait()
    return facts


def _reference(
    session: Session, model: Any, rows: list[Row], held: list[Row], facts: dict[str, Any]
) -> tuple[Scores, Scores]:
    """Log-probabilities under the reference, which is the model as it is now: of what the method trains on
    (nothing for SFT; for KTO the rows and then the mismatched ones), and of the held-out rows."""
    from align.training.scoring import ReferenceCache

    wanted = [] if session.spec.method == "sft" else list(rows)
    if session.spec.method == "kto":
        from align.training.methods.kto import mismatched

        wanted += mismatched(rows)
    directory = Path(session.spec.cache_dir) if session.spec.cache_dir else session.run.path
    identity = facts["base"] if facts["kind"] == "base" else facts["sha256"][:16] + facts["base"]
    cache = ReferenceCache(directory / "reference", identity, writes=session.crew.first)
    session.crew.wait()  # all know the same before the first adds to it
    # A new adapter changes nothing, so it need not be computed.
    with model.disable_adapter() if facts["kind"] == "base" else nullcontext():
        scores = cache.fill([*wanted, *held], lambda missing: _scored(session, model, missing, "reference"))
    if cache.hits:
        session.note(f"{cache.hits} of {len(scores)} rows had a known reference")
    return scores[: len(wanted)], scores[len(wanted) :]


def _scored(session: Session, model: Any, rows: Any, phase: str) -> Any:
    from align.training.scoring import score_rows

    last = [time.monotonic()]

    def tick(done: int) -> None:
        session.stop.check()
        if time.monotonic() - last[0] > 2:
            session.log.write("scored", phase=phase, rows=done, of=len(rows))
            last[0] = time.monotonic()

    if session.crew.together:
        mine = range(session.crew.rank, len(rows), session.crew.size)
        part = score_rows(model, [rows[i] for i in mine], tick=tick, autocast=session.autocast)
        return iter(session.crew.gather([(mine[place], sums) for place, sums in part]))
    return score_rows(model, rows, tick=tick, autocast=session.autocast)


def _score(session: Session, model: Any, rows: list[Row], phase: str) -> Scores:
    scores: Scores = [[] for _ in rows]
    for index, sums in _scored(session, model, rows, phase):
        scores[index] = sums
    return scores


def _measure(session: Session, held: list[Row], policy: Scores, reference: Scores | None) -> dict[str, Any]:
    from align.training.scoring import label_measures, likelihood_measures, preference_measures

    if session.spec.method == "sft":
        return likelihood_measures(held, policy)
    measures = preference_measures if session.spec.method == "dpo" else label_measures
    return measures(held, policy, reference, session.recipe.beta)


def _trainer(method: str) -> Callable[..., Any]:
    module = importlib.import_module(
        f"align.training.methods.{method}"
    )  # recipes know only the methods that there are
    run: Callable[..., Any] = module.run
    return run


def _write_probe(session: Session, tokenizer: Any, rows: list[Row], adapter: Path) -> None:
    from align.training import probe

    tokens = probe.tokens_for(session.hardware.dtype)
    token_ids = probe.probe_tokens(tokenizer, rows, session.recipe.seed, tokens)
    table, missing = probe.measure(session.spec.base_model, adapter, token_ids, session.recipe)
    if missing:
        session.note(f"the probe lacks the base in full precision: {missing}")
    probe.write(session.run.path / "probe.json", token_ids, table)


def _sft_first(
    run: RunDirectory, spec: RunSpec, recipe: Recipe, log: ProgressLog, stop: StopSwitch, ours: Crew
) -> RunSpec:
    """Train on the chosen answers in a run of its own inside this one; its adapter is where DPO starts."""
    import pyarrow.parquet as pq

    first = RunDirectory(run.path / "sft")
    if ours.first and not (first.path / "run.toml").exists():
        first.path.mkdir(exist_ok=True)
        for source, target in ((run.train, first.train), (run.heldout, first.heldout)):
            if source.is_file():
                table = pq.read_table(source)
                names = {
                    name: name.replace("chosen", "completion", 1)
                    for name in table.column_names
                    if not name.startswith("rejected")
                }
                pq.write_table(table.select(list(names)).rename_columns(names), target)
        shared = {name: v for name, v in recipe.to_dict()["params"].items() if "sft" in methods_of(name)}
        sft = resolve("sft", recipe.qlora, {**shared, "max_steps": -1, "num_train_epochs": recipe.sft_epochs})
        first.write(replace(spec, method="sft", recipe=sft.to_dict()))
    ours.wait()
    if first.report() is None:
        log.note("first training on the chosen answers (sft_epochs); its progress is in sft/progress.jsonl")
        own = ProgressLog(first, lambda line: print(f"sft: {line}", flush=True)) if ours.first else NoLog()
        try:
            _train(first, first.spec(), own, stop, ours)
        finally:
            own.close()
    ours.wait()
    return replace(spec, start_adapter=str(first.adapter), start_sha256=None)


def _end(status: int) -> NoReturn:
    """Exit. The processes that only compute have nothing to tidy up and leave at once, and so does one that could not
    leave its group: the interpreter's own end, with threads of torch's process group still there, aborts now and then, and
    would be taken for a failure of the run.
    """
    ours = crew()
    if not ours.first or ours.joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    _end(main())
