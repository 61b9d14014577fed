"""The SFT stage of an SFT-then-DPO run (`sft_epochs`): a run of its own in `sft/`, whose adapter DPO starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from align.progress import NoLog, ProgressLog
from align.recipe.auto import ORIGIN
from align.recipe.fields import methods_of
from align.recipe.recipe import Recipe, resolve
from align.run_directory import RunDirectory, RunSpec
from align.training.distributed.process_group import ProcessGroup


def with_sft_stage(
    run: RunDirectory,
    spec: RunSpec,
    recipe: Recipe,
    log: ProgressLog,
    group: ProcessGroup,
    train: Callable[[RunDirectory, ProgressLog], None],
) -> RunSpec:
    """Train the stage, unless it is done or the recipe has none; return the specification that goes on from it."""
    if not recipe.values.get("sft_epochs"):
        return spec
    stage = RunDirectory(run.path / "sft")
    if group.is_main and not (stage.path / "run.toml").exists():
        _write_stage(run, stage, spec, recipe)
    group.barrier()
    if stage.report() is None:
        log.note("first training on the chosen answers (sft_epochs); its progress is in sft/progress.jsonl")
        own = ProgressLog(stage, lambda line: print(f"sft: {line}", flush=True)) if group.is_main else NoLog()
        try:
            train(stage, own)
        finally:
            own.close()
    group.barrier()
    return replace(spec, start_adapter=str(stage.adapter), start_sha256=None)


def _write_stage(run: RunDirectory, stage: RunDirectory, spec: RunSpec, recipe: Recipe) -> None:
    stage.path.mkdir(exist_ok=True)
    for source, target in ((run.train, stage.train), (run.heldout, stage.heldout)):
        if source.is_file():
            _write_demonstrations(source, target)
    params = recipe.to_dict()["params"]
    shared = {
        name: value
        for name, value in params.items()
        # What was chosen for DPO is chosen anew for SFT; the scale is the adapter's own and stays.
        if "sft" in methods_of(name) and (name == "lora_alpha" or not recipe.origin[name].startswith(ORIGIN))
    }
    sft = resolve("sft", recipe.qlora, {**shared, "max_steps": -1, "num_train_epochs": recipe.sft_epochs})
    stage.write(replace(spec, method="sft", recipe=sft.to_dict()))


def _write_demonstrations(pairs: Path, target: Path) -> None:
    """Write the pairs' chosen answers as completions."""
    table = pq.read_table(pairs)
    names = {
        name: name.replace("chosen", "completion", 1)
        for name in table.column_names
        if not name.startswith("rejected")
    }
    pq.write_table(table.select(list(names)).rename_columns(names), target)
