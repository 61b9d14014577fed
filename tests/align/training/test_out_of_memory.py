"""Memory that runs out in any phase: the run goes on with less, or ends with what to do in words.

Memory cannot be exhausted safely here, so the error is raised where torch would; everything else is real.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from align_helpers import in_process, losses, pairs

from align.run_directory import RunDirectory
from align.training import model as models
from align.training import probe
from align.training.memory import recomputation
from align.training.memory.running_out import ran_out
from align.training.packed import packed_model

MakeRun = Callable[..., RunDirectory]
WORDS = "CUDA out of memory. Tried to allocate 20.00 MiB"


def exhausted(*args: Any, **kwargs: Any) -> Any:
    raise torch.OutOfMemoryError(WORDS)


def failed(run: RunDirectory) -> dict[str, Any]:
    assert in_process(run) == 1
    error = run.error()
    assert error is not None
    assert error["kind"] == "out_of_memory", error
    assert "engines.NAME.gpu_memory" in error["hint"]
    return error


def limit_scoring(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    score = packed_model.score

    def limited(model: Any, pack: Any) -> Any:
        if not torch.is_grad_enabled() and pack.input_ids.numel() > tokens:
            exhausted()
        return score(model, pack)

    monkeypatch.setattr(packed_model, "score", limited)


@pytest.mark.parametrize(("qlora", "knob"), [(False, "qlora = true"), (True, "smaller base model")])
def test_a_base_that_does_not_fit_names_the_knobs(
    qlora: bool, knob: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", exhausted)
    error = failed(make_run("dpo", qlora=qlora))
    assert knob in error["hint"]
    assert WORDS in error["message"]


def test_scoring_goes_on_with_smaller_packs(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = make_run("dpo", {"max_steps": 2}, name="straight")
    assert in_process(straight) == 0
    limit_scoring(monkeypatch, 150)
    run = make_run("dpo", {"max_steps": 2}, name="halved")
    assert in_process(run) == 0, run.error()
    report, expected = run.report(), straight.report()
    assert report is not None
    assert expected is not None
    notes = [note for note in report["notes"] if "out of memory" in note]
    assert {note.partition(":")[0] for note in notes} <= {
        "out of memory in scoring (reference)",
        "out of memory in scoring (after)",
    }
    assert notes
    assert losses(run) == pytest.approx(losses(straight), abs=1e-5)
    for when in ("before", "after"):
        ours, theirs = (r["heldout"][when]["logps/chosen"]["value"] for r in (report, expected))
        assert ours == pytest.approx(theirs, abs=1e-3)


def test_a_row_that_cannot_be_scored_ends_the_run(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_scoring(monkeypatch, 21)  # what the comparison of packed and plain scores takes at the start
    error = failed(make_run("dpo", train=pairs(4)))
    assert "one row of" in error["message"]
    assert "max_length" in error["hint"]


def test_memory_that_runs_out_elsewhere_is_named_too(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_scoring(monkeypatch, 1)
    assert WORDS in failed(make_run("dpo"))["message"]


def test_a_lora_probe_falls_back_to_the_cpu(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("dpo", {"max_steps": 1})
    load = models.AutoModelForCausalLM.from_pretrained
    calls: list[Path] = []

    def second(path: Path, *args: Any, **kwargs: Any) -> Any:
        calls.append(path)  # the first is the training's
        return exhausted() if len(calls) == 2 else load(path, *args, **kwargs)

    monkeypatch.setattr(models.AutoModelForCausalLM, "from_pretrained", second)
    assert in_process(run) == 0, run.error()
    report = run.report()
    assert report is not None
    assert any("probe is computed on the CPU" in note for note in report["notes"])
    assert {"base", "adapter"} <= set(run.probe()["logprobs"])


def test_a_probe_that_fits_nowhere_keeps_what_was_trained(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("dpo", {"max_steps": 1})
    with monkeypatch.context() as patch:
        patch.setattr(probe, "_series", exhausted)
        assert "resume" in failed(run)["hint"]
    assert in_process(run) == 0, run.error()
    assert any("resuming" in note for note in run.report()["notes"])  # type: ignore[index]


def test_layers_are_recomputed_where_not_even_a_few_rows_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        notes: ClassVar[list[str]] = []
        sharded = padded = out_of_memory = False
        recomputed = None
        micro_batch = 2

        class hardware:
            gradient_checkpointing = True

        class recipe:
            gradient_checkpointing = "auto"
            values: ClassVar[dict[str, Any]] = {}

        autocast = None

        def note(self, message: str) -> None:
            self.notes.append(message)

    monkeypatch.setattr(recomputation, "kept_per_token", exhausted)
    monkeypatch.setattr(recomputation, "layers_of", lambda model: [1, 2])
    run: Any = Run()
    recomputation.choose_recomputation(run, torch.nn.Linear(1, 1), [], 1e9)
    assert run.recomputed is None
    assert "all layers" in run.notes[0]


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError(WORDS), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError(WORDS), False),
    ],
)
def test_what_counts_as_memory_that_ran_out(error: Exception, is_memory: bool) -> None:
    assert (ran_out(error) is not None) == is_memory
