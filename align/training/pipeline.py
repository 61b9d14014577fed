"""One run from its directory to an adapter: `train` is the sequence of steps.

prepare -> load_data -> load_model -> score_reference -> measure_before -> fit -> reload_if_sharded -> measure_after ->
save -> probe -> report. Each step returns the `TrainingState` with what it added.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from align.errors import DataError, ModelError
from align.progress import ProgressLog, StopSwitch
from align.recipe.auto import facts_of, with_auto, with_balance
from align.recipe.auto import notes as auto_notes
from align.recipe.recipe import Recipe, cautions, with_flip_rate
from align.report import TrainReport
from align.run_directory import RunDirectory, RunSpec
from align.training import model as models
from align.training import probe as probes
from align.training import trackers
from align.training.callbacks import peak_memory
from align.training.cpu.allocator import map_large_blocks, trim_heap
from align.training.distributed.launcher import HALVED
from align.training.distributed.process_group import ProcessGroup
from align.training.fused.lora import fuse_lora
from align.training.fused.norms import fuse_norms
from align.training.memory.recomputation import choose_recomputation
from align.training.memory.running_out import free_memory, release
from align.training.methods import METHODS
from align.training.methods.method import Method
from align.training.model_card import write_card
from align.training.packed.packed_model import TOLERANCE, disagreement, make_packed, make_plain, why_not
from align.training.reference import record_reference
from align.training.scoring import ReferenceCache, Scores, score_in_group
from align.training.session import Session
from align.training.sft_stage import with_sft_stage
from align.training.texts.chat_template import differences
from align.training.texts.data import Dropped, Row, count_rows, read_rows
from align.training.trainer import Trained
from common.files import write_atomic

LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets")


@dataclass(frozen=True)
class Job:
    """What a run is given: its directory and specification, and how to report, stop and meet the other processes."""

    run: RunDirectory
    spec: RunSpec
    log: ProgressLog
    stop: StopSwitch
    group: ProcessGroup


@dataclass(frozen=True)
class TrainingState:
    """What the steps so far have made. `base` and `model` are None when their memory was freed."""

    session: Session
    method: Method
    started: float
    tokenizer: Any = None
    rows: list[Row] = field(default_factory=list)
    heldout: list[Row] = field(default_factory=list)
    dropped: Dropped = field(default_factory=Dropped)
    base: Any = None
    model: Any = None
    reference_facts: dict[str, Any] = field(default_factory=dict)
    reference: Scores = field(default_factory=list)
    heldout_reference: Scores = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    trained: Trained | None = None
    training_seconds: float = 0.0
    trainable_parameters: int = 0

    @property
    def unfinished(self) -> Path:
        """Where the adapter is until it is complete."""
        return self.session.run.path / ".adapter.partial"


def train(job: Job) -> None:
    """Train the job's run and write its results; only the main process of a group writes."""
    state = prepare(job)
    state = load_data(state)
    state = load_model(state)
    state = score_reference(state)
    state = measure_before(state)
    state = fit(state)
    state = reload_if_sharded(state)
    state = measure_after(state)
    if job.group.is_main:
        state = save(state)
        state = probe(state)
        report(state)


def prepare(job: Job) -> TrainingState:
    """Check what the run needs, choose the hardware, and train the SFT stage of an SFT-then-DPO run."""
    started = time.monotonic()
    asked, flips = with_flip_rate(Recipe.from_dict(job.spec.recipe), None)
    require_files(job.spec)
    trackers.require(asked)
    recipe = with_auto(
        asked, facts_of(job.spec.base_model, count_rows(job.run.train), job.spec.start_adapter)
    )
    spec = with_sft_stage(
        job.run,
        job.spec,
        recipe,
        job.log,
        job.group,
        lambda run, log: train(replace(job, run=run, spec=run.spec(), log=log)),
    )
    hardware = models.choose(recipe)
    if hardware.gradient_checkpointing:
        map_large_blocks()
    session = Session(job.run, spec, recipe, hardware, job.log, job.stop, group=job.group)
    for note in (*([flips] if flips else []), *auto_notes(recipe), *cautions(recipe)):
        session.note(note)
    for _ in range(int(os.environ.get(HALVED, 0))):
        session.halve_micro_batch("another process ran out of memory")
    return TrainingState(session, METHODS[spec.method], started)


def load_data(state: TrainingState) -> TrainingState:
    """Read and tokenise both files of the snapshot. Raises `DataError` when no row is left to train on."""
    session = state.session
    run, recipe = session.run, session.recipe
    tokenizer = models.load_tokenizer(session.spec.base_model)
    for difference in differences(tokenizer, session.spec.chat_template_kwargs):
        session.note(difference)
    rows, dropped = _read(session, run.train, tokenizer)
    if dropped.refused_by_template:
        session.note(
            f"{dropped.refused_by_template} rows were left out since the chat template refuses them: {dropped.examples[0]}"
        )
    if not rows:
        raise _nothing_to_train_on(dropped)
    state.method.check(rows)
    _balance(session, rows)
    heldout: list[Row] = []
    if run.heldout.is_file() and recipe.heldout_limit:
        heldout, _ = _read(session, run.heldout, tokenizer, recipe.heldout_limit)
    return replace(state, tokenizer=tokenizer, rows=rows, dropped=dropped, heldout=heldout)


def load_model(state: TrainingState) -> TrainingState:
    """Load the base, and put a new adapter or the start adapter on it."""
    session, group = state.session, state.session.group
    recipe, hardware = session.recipe, session.hardware
    base, model = _base_with_adapter(session, session.spec.start_adapter)
    if group.is_distributed:
        session.note(f"{group.size} processes train together ({recipe.distributed})")
    facts = record_reference(session.run, session.spec, recipe, group)
    session.log.write("recipe", **recipe.to_dict(), hardware=hardware.to_dict())
    return replace(state, base=base, model=model, reference_facts=facts)


def score_reference(state: TrainingState) -> TrainingState:
    """Compute or look up log-probabilities under the reference, which is the model as it is now."""
    session, facts = state.session, state.reference_facts
    rows, heldout = state.rows, state.heldout
    phase = "reference" if state.method.needs_reference else "before"
    session.log.phase(phase, rows=len(rows), heldout=len(heldout))
    models.without_dropout(state.model)
    wanted = state.method.rows(rows)
    directory = Path(session.spec.cache_dir) if session.spec.cache_dir else session.run.path
    identity = facts["base"] if facts["kind"] == "base" else facts["sha256"][:16] + facts["base"]
    cache = ReferenceCache(directory / "reference", identity, writes=session.group.is_main)
    session.group.barrier()  # every process reads the same cache before the main one adds to it
    # A new adapter changes nothing, so it need not be computed.
    with state.model.disable_adapter() if facts["kind"] == "base" else nullcontext():
        scores = cache.fill(
            [*wanted, *heldout], lambda missing: score_in_group(session, state.model, missing, "reference")
        )
    if cache.hits:
        session.note(f"{cache.hits} of {len(scores)} rows had a known reference")
    return replace(state, reference=scores[: len(wanted)], heldout_reference=scores[len(wanted) :])


def measure_before(state: TrainingState) -> TrainingState:
    """Measure the reference on the held-out rows."""
    recipe = state.session.recipe
    return replace(state, before=state.method.measures(state.heldout, state.heldout_reference, None, recipe))


def fit(state: TrainingState) -> TrainingState:
    """Train the adapter. A sharded model is freed afterwards: its shards cannot be scored."""
    session = state.session
    count = models.trainable_parameters(state.model)
    session.log.phase("training", trainable_parameters=count)
    choose_recomputation(session, state.model, state.rows, free_memory(session.hardware.device))
    clock = time.monotonic()
    with trackers.reporting(session.run.path):
        trained = state.method.fit(session, state.model, state.tokenizer, state.rows, state.reference)
    state = replace(
        state, trained=trained, training_seconds=time.monotonic() - clock, trainable_parameters=count
    )
    return replace(state, base=None, model=None) if session.sharded else state


def reload_if_sharded(state: TrainingState) -> TrainingState:
    """Load the whole model again from the last checkpoint when it was trained in shards."""
    session = state.session
    if not session.sharded:
        return state
    base, model = _base_with_adapter(session, str(session.run.checkpoints()[-1]))
    return replace(state, base=base, model=model, trainable_parameters=models.trainable_parameters(model))


def measure_after(state: TrainingState) -> TrainingState:
    """Measure the trained model on the held-out rows."""
    session, heldout = state.session, state.heldout
    session.log.phase("after")
    models.without_dropout(state.model)
    scores: Scores = [[] for _ in heldout]
    for index, sums in score_in_group(session, state.model, heldout, "after"):
        scores[index] = sums
    return replace(
        state, after=state.method.measures(heldout, scores, state.heldout_reference, session.recipe)
    )


def save(state: TrainingState) -> TrainingState:
    """Write the adapter where it is not yet complete, and free the model: the probe loads the base again."""
    spec = state.session.spec
    state.session.log.phase("saving")
    shutil.rmtree(state.unfinished, ignore_errors=True)
    models.save_adapter(state.model, state.unfinished, spec.base_name or spec.base_model)
    return replace(state, base=None, model=None)


def probe(state: TrainingState) -> TrainingState:
    """Write the log-probabilities that the served adapter is compared with."""
    session = state.session
    session.log.phase("probe")
    release()  # trainer and model refer to each other
    trim_heap()
    tokens = probes.tokens_for(session.hardware)
    rows = state.heldout or state.rows
    token_ids = probes.probe_tokens(state.tokenizer, rows, session.recipe.seed, tokens)
    table, missing = probes.measure(
        session.spec.base_model, state.unfinished, token_ids, session.recipe, session.note
    )
    if missing:
        session.note(f"the probe lacks the base in full precision: {missing}")
    probes.write(session.run.path / "probe.json", token_ids, table)
    return state


def report(state: TrainingState) -> None:
    """Write the model card, move the adapter into place, and last the report."""
    run, spec = state.session.run, state.session.spec
    made = replace(
        train_report(state), peak_memory_bytes=peak_memory(), seconds=time.monotonic() - state.started
    )
    write_card(state.unfinished, spec, made)
    shutil.rmtree(run.adapter, ignore_errors=True)
    state.unfinished.rename(run.adapter)
    write_atomic(run.path / "report.json", json.dumps(made.to_dict(), indent=2, default=float) + "\n")
    state.session.log.phase("done", seconds=made.seconds)


def train_report(state: TrainingState) -> TrainReport:
    """Return the report of a state that was trained, measured and saved."""
    assert state.trained is not None
    session, watch = state.session, state.trained.watch
    last = {k: v for k, v in watch.last_metrics.items() if k not in ("total_steps", "step")}
    rates = {
        "tokens_per_second": watch.tokens_seen / state.training_seconds,
        "rows_per_second": watch.rows_seen / state.training_seconds,
    }
    return TrainReport(
        method=session.spec.method,
        qlora=session.recipe.qlora,
        steps=state.trained.steps,
        epochs=state.trained.epochs,
        training_seconds=state.training_seconds,
        train={"rows": len(state.rows), "dropped": state.dropped.to_dict(), **rates, **last},
        heldout={"before": state.before, "after": state.after},
        reference=state.reference_facts,
        trainable_parameters=state.trainable_parameters,
        recipe=session.recipe.to_dict(),
        hardware=session.hardware.to_dict(),
        snapshot=session.spec.snapshot,
        notes=session.notes,
        versions={name: version(name) for name in LIBRARIES},
    )


def require_files(spec: RunSpec) -> None:
    """Raise `ModelError` when the base model or the start adapter is missing."""
    if not (Path(spec.base_model) / "config.json").is_file():
        raise ModelError(
            f"{spec.base_model} is not a Hugging Face model directory", "prepare the base model first"
        )
    if spec.start_adapter and not (Path(spec.start_adapter) / "adapter_config.json").is_file():
        raise ModelError(f"the start adapter {spec.start_adapter} is missing")


def _read(
    session: Session, path: Path, tokenizer: Any, limit: int | None = None
) -> tuple[list[Row], Dropped]:
    spec = session.spec
    return read_rows(
        path,
        spec.method,
        tokenizer,
        session.recipe.max_length,
        limit,
        system_prompt=spec.system_prompt,
        template_options=spec.chat_template_kwargs,
    )


def _balance(session: Session, rows: list[Row]) -> None:
    """Choose the weights of liked and disliked rows where the recipe leaves them open."""
    before = session.recipe
    session.recipe = with_balance(before, ((row.desirable, row.weight) for row in rows))
    known = auto_notes(before)
    for note in auto_notes(session.recipe):
        if note not in known:
            session.note(note)


def _nothing_to_train_on(dropped: Dropped) -> DataError:
    counts = dropped.to_dict()
    reasons = ", ".join(f"{k}: {v}" for k, v in counts.items() if v and k != "examples")
    examples = f"; {dropped.examples[0]}" if dropped.refused_by_template else ""
    return DataError(
        f"no row is left to train on ({reasons or 'the file is empty'}{examples})",
        "raise max_length or add data",
    )


def _base_with_adapter(session: Session, start: str | None) -> tuple[Any, Any]:
    """Load the base and return it with the model that has an adapter on it, both able to score packs."""
    base = models.load_base(session.spec.base_model, session.recipe, session.hardware)
    models.without_dropout(base)
    reason = _why_padded(session, base)
    if reason is None:
        make_packed(base)
    else:
        session.note(f"rows are padded, not packed: {reason}")
        session.padded = True
        make_plain(base)
    model = models.add_adapter(base, session.recipe, start, session.spec.max_lora_rank)
    if not session.sharded:  # a sharded weight is whole only within its own module's forward pass
        fuse_norms(base)
        fuse_lora(model)
    return base, model


def _why_padded(session: Session, base: Any) -> str | None:
    if not session.recipe.packing:
        return "packing = false"
    if reason := why_not(base, session.recipe.max_length):
        return reason
    gap = disagreement(base)
    if gap > TOLERANCE[session.hardware.dtype]:
        return f"packed and plain scores differ by {gap:.3g}"
    return None
