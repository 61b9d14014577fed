"""Several processes train one run: two on the CPU over gloo give what one gives, stop together and go on together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from align_helpers import in_process, losses, seconds_to_stop, start_group, start_worker, wait_for, weights
from transformers import TrainingArguments

from align.run_directory import RunDirectory
from align.training.distributed.process_group import ProcessGroup, process_group

MakeRun = Callable[..., RunDirectory]
TWO = {"num_processes": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
ONE = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}


def test_a_single_process_has_a_group_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    alone = process_group()
    assert (alone, alone.is_main, alone.is_distributed) == (ProcessGroup(), True, False)
    alone.join()
    alone.barrier()
    assert (alone.any(False), alone.gather([1])) == (False, [1])
    assert alone.mean(torch.tensor([3.0])).tolist() == [3.0]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    group = process_group()
    assert (group.rank, group.is_main, group.is_distributed) == (1, False, True)


def test_two_processes_take_the_steps_of_one(make_run: MakeRun) -> None:
    """Same rows a step, so the same losses and weights; only the first process writes. Started by torch's launcher."""
    params = {"max_steps": 3, "lr_scheduler_type": "constant"}
    alone = make_run("dpo", {**params, **ONE}, name="alone")
    assert in_process(alone) == 0, alone.error()
    run = make_run("dpo", {**params, **TWO}, name="two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with (run.path / "worker.log").open("w") as log:
        command = [*launcher, "-m", "align.worker", str(run.path)]
        ended = subprocess.run(command, stdout=log, stderr=log, timeout=500, check=False)
    assert ended.returncode == 0, (run.path / "worker.log").read_text()
    assert list(losses(run)) == [1, 2, 3]  # each step once: the second process says nothing
    assert list(losses(run).values()) == pytest.approx(list(losses(alone).values()), abs=1e-4)
    for name, tensor in weights(alone).items():
        torch.testing.assert_close(weights(run)[name], tensor, atol=1e-4, rtol=1e-3)
    report, other = run.report(), alone.report()
    assert report is not None
    assert other is not None
    assert "2 processes train together (ddp)" in report["notes"]
    for when, name in (("before", "logps/chosen"), ("after", "loss")):
        ours, theirs = report["heldout"][when][name], other["heldout"][when][name]
        assert ours["value"] == pytest.approx(theirs["value"], abs=1e-3)


def test_a_failure_to_destroy_the_process_group_does_not_fail_a_finished_run(make_run: MakeRun) -> None:
    run = make_run("sft", {**TWO, "max_steps": 1})
    group = start_group(run, 2, destroy_fails=True)
    for process in group:
        process.join(timeout=120)
    said = (run.path / "worker.log").read_text()
    assert [process.exitcode for process in group] == [0, 0], said
    assert said.count("cannot destroy the process group: the others are gone") == 2
    assert run.report() is not None
    assert run.error() is None


def test_one_process_takes_one_card_of_several(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers counts the cards that it sees, here two, and would spread the model over them."""
    initial = TrainingArguments.__post_init__

    def two_cards(self: TrainingArguments) -> None:
        initial(self)
        self._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", two_cards)
    run = make_run("dpo", {"max_steps": 1, **ONE})
    assert in_process(run) == 0, run.error()


def test_sharded_qlora_is_stopped_and_resumed(make_run: MakeRun) -> None:
    """FSDP over a 4-bit base: stopped in its middle within seconds, and the end is that of one process."""
    params = {"max_steps": 4, "save_steps": 2, "lr_scheduler_type": "constant", "optim": "adamw_torch"}
    alone = make_run("dpo", {**params, **ONE}, qlora=True, name="alone")
    assert in_process(alone) == 0, alone.error()
    run = make_run("dpo", {**params, **TWO, "distributed": "fsdp"}, qlora=True, name="sharded")
    worker = start_worker(run, forked_group=True)
    wait_for(run, worker, lambda row: row.get("step", 0) >= 1)
    asked = time.time()
    run.request_stop()
    worker.join(timeout=120)
    assert worker.exitcode == 3, (run.path / "worker.log").read_text()
    assert seconds_to_stop(run, asked) < 5
    assert run.checkpoints()
    assert run.report() is None
    run.withdraw_stop()
    worker = start_worker(run, forked_group=True)
    worker.join(timeout=600)
    assert worker.exitcode == 0, (run.path / "worker.log").read_text()
    assert list(losses(run)) == [1, 2, 3, 4]
    assert losses(run)[4] == pytest.approx(losses(alone)[4], abs=1e-3)
    for name, tensor in weights(alone).items():
        torch.testing.assert_close(weights(run)[name], tensor, atol=1e-2, rtol=1e-1)
    report, other = run.report(), alone.report()
    assert report is not None
    assert other is not None
    ours, theirs = report["heldout"]["after"]["loss"], other["heldout"]["after"]["loss"]
    assert ours["value"] == pytest.approx(theirs["value"], abs=1e-3)


def test_when_one_process_is_killed_the_run_ends_and_says_so(make_run: MakeRun) -> None:
    run = make_run("sft", {**TWO, "num_train_epochs": 200})
    worker = start_worker(run)
    wait_for(run, worker, lambda row: row.get("step", 0) >= 1)
    listed = subprocess.run(
        ["pgrep", "-P", str(worker.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(listed) == 2
    os.kill(int(listed[1]), 9)
    worker.join(timeout=60)
    assert worker.exitcode == 1
    error = run.error()
    assert error is not None
    assert error["kind"] in ("worker_ended", "error")
    assert not [pid for pid in listed if Path(f"/proc/{pid}").exists()]
    assert run.report() is None
