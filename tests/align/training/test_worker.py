"""One run from its directory alone: whole results, resumed after any death, stopped in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from align_helpers import (
    in_process,
    losses,
    make_tiny_model,
    pairs,
    read_json,
    seconds_to_stop,
    start_worker,
    wait_for,
    weights,
)
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from align.run_directory import RunDirectory, adapter_identity
from align.training.probe import logprobs

MakeRun = Callable[..., RunDirectory]


@pytest.mark.parametrize(
    ("method", "qlora"), [("dpo", False), ("dpo", True), ("sft", False), ("sft", True), ("kto", False)]
)
def test_a_run_learns_and_its_results_are_whole(method: str, qlora: bool, make_run: MakeRun) -> None:
    run = make_run(method, {"num_train_epochs": 6}, qlora=qlora)
    assert in_process(run) == 0, run.error()
    report = run.report()
    assert report is not None
    assert (report["method"], report["qlora"], report["steps"]) == (method, qlora, 12)
    assert list(losses(run)) == list(range(1, 13))
    if method == "dpo":
        assert report["heldout"]["before"]["n"] == 6
        assert report["heldout"]["after"]["reward_accuracy"]["value"] > 0.5
        assert report["heldout"]["after"]["rewards/margins"]["value"] > 0
        assert losses(run)[1] == pytest.approx(0.6931, abs=1e-3)
    elif method == "kto":
        assert losses(run)[1] == pytest.approx(0.5, abs=1e-3)  # 1 - sigmoid(0), whatever the label
        assert losses(run)[12] < 0.3  # what was liked is likelier by then, what was not is not
        assert report["heldout"]["after"]["reward_accuracy"]["n"] == 6
    else:
        assert report["heldout"]["after"]["loss"]["value"] < report["heldout"]["before"]["loss"]["value"]
    assert min(report["peak_memory_bytes"], report["seconds"], report["train"]["tokens_per_second"]) > 0
    assert [row["phase"] for row in run.progress() if row["kind"] == "phase"][0::6] == ["loading", "done"]
    assert all(t.dtype is torch.float32 and torch.isfinite(t).all() for t in weights(run).values())
    card = (run.adapter / "README.md").read_text()
    assert "s-test" in card
    assert not [p for p in run.path.iterdir() if "partial" in p.name]
    assert in_process(run) == 0  # a finished run stays as it is


@pytest.mark.parametrize("qlora", [False, True])
def test_the_probe_is_what_peft_computes_for_the_adapter(qlora: bool, make_run: MakeRun, tiny: Path) -> None:
    before = {p.name: p.read_bytes() for p in tiny.iterdir()}
    run = make_run("dpo", {"max_steps": 3}, qlora=qlora)
    assert in_process(run) == 0, run.error()
    assert {p.name: p.read_bytes() for p in tiny.iterdir()} == before
    assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in weights(run))
    assert all(float(t.abs().max()) > 0 for t in weights(run).values())  # every part of the adapter moved
    probe = run.probe()
    assert probe is not None
    table, ids = probe["logprobs"], probe["token_ids"]
    own = {name for name in table if "adapter_x" not in name}
    assert own == {"base", "adapter"} | ({"nf4_base", "nf4_adapter"} if qlora else set())
    assert {name.partition("_x")[0] for name in table.keys() - own} == own - {"base", "nf4_base"}
    assert {len(series) for series in table.values()} == {len(ids) - 1}
    assert len(ids) >= 36
    base = AutoModelForCausalLM.from_pretrained(tiny).eval()
    assert logprobs(base, ids) == pytest.approx(table["base"], abs=1e-5)
    model = PeftModel.from_pretrained(base, str(run.adapter)).eval()
    assert logprobs(model, ids) == pytest.approx(table["adapter"], abs=1e-5)
    assert max(abs(a - b) for a, b in zip(table["base"], table["adapter"], strict=True)) > 1e-3
    if qlora:
        assert max(abs(a - b) for a, b in zip(table["nf4_adapter"], table["adapter"], strict=True)) > 1e-3


def test_same_run_same_adapter(make_run: MakeRun) -> None:
    """Same snapshot, recipe and seed: the same bytes, with dropout drawn from the seed."""
    first, second, other = (
        make_run("dpo", {"max_steps": 3, "lora_dropout": 0.1, "seed": seed}, name=name)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert [in_process(run) for run in (first, second, other)] == [0, 0, 0]
    assert adapter_identity(first.adapter) == adapter_identity(second.adapter)
    assert adapter_identity(first.adapter) != adapter_identity(other.adapter)


@pytest.mark.parametrize("continued", [False, True], ids=["from base", "from adapter"])
def test_killed_and_resumed_is_as_uninterrupted(continued: bool, make_run: MakeRun, tmp_path: Path) -> None:
    start = None
    if continued:
        origin = make_run("dpo", {"max_steps": 3}, name="origin")
        assert in_process(origin) == 0
        start = str(origin.adapter)
    # Many micro-batches a step, so that there is time to kill between two steps on a busy machine.
    rows = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6}
    params = {"num_train_epochs": 5, "save_steps": 3, "lora_dropout": 0.05, "learning_rate": 1e-3, **rows}
    straight = make_run("dpo", params, name="straight", start_adapter=start)
    broken = make_run("dpo", params, name="broken", start_adapter=start)
    assert in_process(straight) == 0, straight.error()
    for at in (4, 7):  # killed twice, each time between two checkpoints
        worker = start_worker(broken)
        wait_for(broken, worker, lambda row, at=at: row.get("step", 0) >= at)
        worker.kill()
        worker.join()
        assert broken.report() is None
    assert in_process(broken) == 0, broken.error()
    whole, resumed = losses(straight), losses(broken)
    assert resumed.keys() == whole.keys()
    assert resumed[10] == pytest.approx(whole[10], abs=1e-3)
    for name, tensor in weights(straight).items():
        torch.testing.assert_close(weights(broken)[name], tensor, atol=1e-4, rtol=1e-3)
    notes = " ".join(broken.report()["notes"])  # type: ignore[index]
    assert "resuming from checkpoint-" in notes


@pytest.mark.parametrize("how", ["signal", "file"])
def test_stop_leaves_a_checkpoint_within_seconds(how: str, make_run: MakeRun) -> None:
    # A step of many micro-batches takes long; the request comes in the middle of one.
    params = {"max_steps": 6, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 12}
    run = make_run("dpo", params, name=f"stopped-{how}")
    worker = start_worker(run)
    wait_for(run, worker, lambda row: row.get("step", 0) >= 2)
    asked = time.time()
    if how == "signal":
        worker.terminate()
    else:
        run.request_stop()
    worker.join(timeout=60)
    assert worker.exitcode == 3
    assert seconds_to_stop(run, asked) < 5
    assert run.error() is None
    assert run.report() is None
    reached = max(losses(run))
    assert run.checkpoints()[-1].name == f"checkpoint-{reached}"
    run.withdraw_stop()
    assert in_process(run) == 0
    assert list(losses(run)) == list(range(1, 7))


@pytest.mark.parametrize("named", [True, False], ids=["a run", "none yet"])
def test_waiting_worker_that_still_imports_obeys_a_request_to_stop(named: bool, make_run: MakeRun) -> None:
    run = make_run("dpo", {"max_steps": 1})
    command = [sys.executable, "-m", "align.worker", "--warm"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as worker:
        assert worker.stdin is not None
        assert worker.stderr is not None
        while "/torch/" not in Path(f"/proc/{worker.pid}/maps").read_text():
            time.sleep(0.02)
        if named:
            worker.stdin.write(f"{run.path}\n".encode())
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=120) == 3
        assert b"Traceback" not in worker.stderr.read()
    phases = [row["phase"] for row in run.progress() if row["kind"] == "phase"]
    assert phases == (["stopped"] if named else [])
    assert run.error() is None
    assert in_process(run) == 0, run.error()


def test_the_start_adapter_is_the_reference(make_run: MakeRun, tmp_path: Path) -> None:
    origin = make_run("dpo", {"max_steps": 4}, name="origin")
    assert in_process(origin) == 0
    run = make_run("dpo", {"max_steps": 4}, name="next", start_adapter=str(origin.adapter), max_lora_rank=16)
    assert in_process(run) == 0, run.error()
    report = run.report()
    assert report is not None
    assert report["reference"]["sha256"] == adapter_identity(origin.adapter)
    # Policy and reference are the same at the first step, so the loss is log 2, as it would not be against the base.
    assert losses(run)[1] == pytest.approx(0.6931, abs=1e-3)
    assert not (run.adapter / "ref").exists()


def test_sft_then_dpo_in_one_run(make_run: MakeRun) -> None:
    run = make_run("dpo", {"sft_epochs": 4, "max_steps": 2})
    assert in_process(run) == 0, run.error()
    first = RunDirectory(run.path / "sft")
    report = run.report()
    assert report is not None
    assert first.report()["method"] == "sft"  # type: ignore[index]
    assert report["reference"]["sha256"] == adapter_identity(first.adapter)
    assert losses(run)[1] == pytest.approx(0.6931, abs=1e-3)
    assert losses(first)[8] < losses(first)[1]


def test_changed_reference_fails_the_run(make_run: MakeRun) -> None:
    origin = make_run("dpo", {"max_steps": 2}, name="origin")
    assert in_process(origin) == 0
    run = make_run("dpo", {"num_train_epochs": 60}, name="next", start_adapter=str(origin.adapter))
    worker = start_worker(run)
    wait_for(run, worker, lambda row: row.get("step", 0) >= 1)
    worker.terminate()
    worker.join(timeout=30)
    assert worker.exitcode == 3
    tensors = load_file(origin.adapter / "adapter_model.safetensors")
    save_file({k: v * 1.01 for k, v in tensors.items()}, origin.adapter / "adapter_model.safetensors")
    assert in_process(run) == 1
    assert run.error()["kind"] == "model"  # type: ignore[index]
    assert "reference" in run.error()["message"]  # type: ignore[index]


def test_the_reference_is_remembered_across_runs(make_run: MakeRun, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    first = make_run("dpo", {"max_steps": 1}, name="first", cache_dir=cache)
    second = make_run("dpo", {"max_steps": 1}, name="second", train=pairs(16), cache_dir=cache)
    assert [in_process(run) for run in (first, second)] == [0, 0]
    assert "18 of 22 rows had a known reference" in second.report()["notes"]  # type: ignore[index]
    assert losses(second)[1] == pytest.approx(0.6931, abs=1e-3)


def test_weights_multiply_the_loss(make_run: MakeRun) -> None:
    """By hand: with the sft loss and answers of one length, the step's loss is the weighted mean of the rows' own.

    Weights are scaled to a mean of one, and a row of weight zero is as if it were not there.
    """
    rows = [{**row, "chosen": " ".join(row["rejected"].split()[:3])} for row in pairs(2)]
    params = {"max_steps": 1, "loss_type": ["sft"], "gradient_accumulation_steps": 1}
    first: list[float] = []
    for name, weights_of in (("one", (1.0, 0.0)), ("two", (0.0, 1.0)), ("both", (0.3, 0.1))):
        weighed = [{**row, "weight": w} for row, w in zip(rows, weights_of, strict=True)]
        run = make_run("dpo", params, weighed, heldout=[], name=name)
        assert in_process(run) == 0, run.error()
        first.append(losses(run)[1])
        report = run.report()
        assert report is not None
        assert report["train"]["dropped"]["zero_weight"] == weights_of.count(0.0)
    assert first[2] == pytest.approx((1.5 * first[0] + 0.5 * first[1]) / 2, rel=1e-5)
    assert abs(first[0] - first[1]) > 0.01


def test_a_model_that_cannot_be_packed_is_padded(make_run: MakeRun, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "window", sliding_window=8)
    run = make_run("dpo", {"max_steps": 2}, model=model)
    assert in_process(run) == 0, run.error()
    assert any("padded, not packed: sliding window" in n for n in run.report()["notes"])  # type: ignore[index]


def test_an_adapter_that_is_not_the_one_asked_for_is_no_reference(make_run: MakeRun) -> None:
    origin = make_run("dpo", {"max_steps": 1}, name="origin")
    assert in_process(origin) == 0
    right, wrong = adapter_identity(origin.adapter), "0" * 64
    start = str(origin.adapter)
    good = make_run("dpo", {"max_steps": 1}, name="good", start_adapter=start, start_sha256=right)
    bad = make_run("dpo", {"max_steps": 1}, name="bad", start_adapter=start, start_sha256=wrong)
    assert [in_process(run) for run in (good, bad)] == [0, 1]
    error = bad.error()
    assert error is not None
    assert error["kind"] == "model"
    assert "not the adapter that the run was asked for" in error["message"]


def test_a_tracker_receives_every_step(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard's events are in the run directory, under the names and with the values of progress.jsonl."""
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    run = make_run("dpo", {"report_to": ["tensorboard"], "max_steps": 3})
    assert in_process(run) == 0, run.error()
    events = EventAccumulator(str(run.path / "trackers"))
    events.Reload()
    sent = {event.step: event.value for event in events.Scalars("train/loss")}
    assert sent == pytest.approx(losses(run))
    assert len(events.Scalars("train/rewards/margins")) == 3
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ, "the next run has a directory of its own"


def test_unknown_flip_rate_is_assumed_and_noted(make_run: MakeRun) -> None:
    run = make_run("dpo", {"max_steps": 1, "loss_type": ["robust"], "label_smoothing": "auto"})
    assert in_process(run) == 0, run.error()
    report = run.report()
    assert report is not None
    assert any("label_smoothing = 0.1 assumed" in note for note in report["notes"])
    assert report["recipe"]["params"]["label_smoothing"] == 0.1


def test_a_beta_that_does_not_fit_the_loss_is_in_the_reports_notes(make_run: MakeRun) -> None:
    run = make_run("dpo", {"max_steps": 1, "loss_type": ["ipo"], "beta": 0.1})
    assert in_process(run) == 0, run.error()
    report = run.report()
    assert report is not None
    assert any("ipo with beta = 0.1" in note for note in report["notes"])


@pytest.mark.slow
def test_qlora_on_the_embedded_model(make_run: MakeRun, smollm2: Path) -> None:
    """The real thing: SmolLM2-135M, NF4 with double quantisation, two steps on real words."""
    rows = [
        {
            "pair_id": f"p{i}",
            "prompt": [{"role": "user", "content": f"Name a colour of {thing}."}],
            "chosen": "Blue.",
            "rejected": f"There are many colours of {thing}; one of them might be said to be blue.",
            "weight": 1.0,
        }
        for i, thing in enumerate(["the sea", "the sky", "a plum", "a whale", "ice", "ink"])
    ]
    run = make_run(
        "dpo",
        {
            "max_steps": 2,
            "learning_rate": 2e-4,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1,
        },
        train=rows[:4],
        heldout=rows[4:],
        qlora=True,
        model=smollm2,
    )
    assert in_process(run) == 0, run.error()
    values = list(losses(run).values())
    assert values[0] == pytest.approx(0.6931, abs=2e-3)
    assert values[1] < values[0]
    probe = read_json(run.path / "probe.json")["logprobs"]
    assert not any("padded" in note for note in run.report()["notes"])  # type: ignore[index]
    drift = [abs(a - b) for a, b in zip(probe["adapter"], probe["nf4_adapter"], strict=True)]
    # 1.2 to 1.4 nats a token were seen: four bits are few for a model of this size
    assert 0 < sum(drift) / len(drift) < 3
