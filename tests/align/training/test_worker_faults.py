"""Runs that cannot go well: each ends with an error that explains, or goes on with less."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from align_helpers import (
    demonstrations,
    in_process,
    likes,
    losses,
    pairs,
)
from safetensors.torch import load_file, save_file

from align.run_directory import RunDirectory

MakeRun = Callable[..., RunDirectory]


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"train": []}, "data", "no row is left"),
        ({"train": demonstrations(3)}, "data", "chosen, rejected"),
        ({"train": [{**p, "rejected": p["chosen"]} for p in pairs(3)]}, "data", "same_answers: 3"),
        ({"method": "kto", "train": likes(6)[::2]}, "data", "were liked"),
        ({"params": {"report_to": ["mlflow"]}}, "recipe", "installed"),
        ({"params": {"max_length": 16}}, "data", "prompt_too_long"),
        ({"params": {"target_modules": ["no_such_layer"]}}, "recipe", "target_modules"),
        ({"params": {"r": 32}, "max_lora_rank": 16}, "recipe", "--max-lora-rank"),
        ({"start_adapter": "/nowhere"}, "model", "/nowhere"),
        ({"model": Path("/no/model")}, "model", "/no/model"),
    ],
    ids=["empty", "columns", "same", "one-sided", "tracker", "long", "modules", "rank", "adapter", "base"],
)
def test_faults_are_explained(changes: dict[str, Any], kind: str, words: str, make_run: MakeRun) -> None:
    if words == "prompt_too_long":
        changes = {
            **changes,
            "train": [{**p, "prompt": [{"role": "user", "content": "deep " * 30}]} for p in pairs(3)],
        }
    run = make_run(**{"method": "dpo", **changes})
    assert in_process(run) == 1
    error = run.error()
    assert error is not None
    assert (error["kind"], words in error["message"]) == (kind, True), error
    assert run.report() is None
    assert not run.adapter.exists()


def test_a_loss_that_is_no_number_ends_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run("dpo", {"max_steps": 1}, name="origin")
    assert in_process(first) == 0
    broken = shutil.copytree(first.adapter, tmp_path / "broken")
    tensors = load_file(broken / "adapter_model.safetensors")
    poisoned = next(name for name in tensors if "lora_B" in name)
    tensors[poisoned][0] = float("nan")
    save_file(tensors, broken / "adapter_model.safetensors")
    run = make_run("dpo", {"max_steps": 2}, start_adapter=str(broken))
    assert in_process(run) == 1
    error = run.error()
    assert error is not None
    assert error["kind"] == "diverged", error
    assert not run.adapter.exists()


def test_out_of_memory_halves_the_micro_batch(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory cannot be exhausted safely here, so the error is raised where torch would: everything else is real."""
    from align.training.methods import dpo

    straight = make_run("dpo", {"num_train_epochs": 3}, name="straight")
    assert in_process(straight) == 0
    compute = dpo.PairTrainer.compute_loss

    def hungry(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if len(inputs["weight"]) > 2 and self.state.global_step >= 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(dpo.PairTrainer, "compute_loss", hungry)
    run = make_run("dpo", {"num_train_epochs": 3, "save_steps": 2})
    assert in_process(run) == 0, run.error()
    report = run.report()
    assert report is not None
    assert "out of memory: going on with 2 rows x 4 accumulated" in report["notes"]
    assert list(losses(run)) == [1, 2, 3, 4, 5, 6]
    assert losses(run)[6] == pytest.approx(losses(straight)[6], abs=1e-3)
    monkeypatch.setattr(dpo.PairTrainer, "compute_loss", lambda *a, **k: torch.empty(2**60))
    hopeless = make_run("dpo", name="hopeless")
    assert in_process(hopeless) == 1
    assert hopeless.error()["kind"] == "out_of_memory"  # type: ignore[index]


def test_a_full_disk_is_explained(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from align import worker
    from align.training import model as models

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "save_adapter", full)
    run = make_run("dpo", {"max_steps": 1})
    assert in_process(run) == 1
    assert run.error()["kind"] == "disk_full"  # type: ignore[index]

    # torch's own words for the same, while a checkpoint is written
    def broken(*args: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl: file write failed")

    monkeypatch.setattr(models, "save_adapter", broken)
    monkeypatch.setattr(worker, "_disk_is_full", lambda run: True)
    assert in_process(run) == 1
    assert run.error()["kind"] == "disk_full"  # type: ignore[index]
    monkeypatch.undo()
    assert in_process(run) == 0


def test_an_exploding_loss_ends_the_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that makes a real model explode makes it NaN as often, so the loss is blown up after it is computed."""
    from align.training.methods import dpo

    compute = dpo.PairTrainer.compute_loss

    def blown(self: Any, *args: Any, **kwargs: Any) -> Any:
        return compute(self, *args, **kwargs) * (1e6 if self.state.global_step >= 6 else 1.0)

    monkeypatch.setattr(dpo.PairTrainer, "compute_loss", blown)
    run = make_run("dpo", {"max_steps": 8, "save_steps": 2})
    assert in_process(run) == 1
    error = run.error()
    assert error is not None
    assert error["kind"] == "diverged"
    assert "it began at" in error["message"]
    assert run.checkpoints()[-1].name == "checkpoint-6"


def test_a_second_worker_is_refused(make_run: MakeRun) -> None:
    run = make_run("dpo")
    with run.held():
        assert in_process(run) == 1
    assert "another worker" in run.error()["message"]  # type: ignore[index]
    assert in_process(run) == 0
    assert run.error() is None
