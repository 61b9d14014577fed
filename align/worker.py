"""One training run, alone: `python -m align.worker RUN_DIR`, or `--warm` to import first and read RUN_DIR from stdin later.

Reads `run.toml` and the snapshot; writes progress, checkpoints, the adapter, the probe and, last of all, the report.
A worker that is started again resumes from the newest complete checkpoint. Exit status 0: `report.json` and `adapter/`
are complete; 3: stopped on request, resumable; 1: `error.json` says why. Imports no torch itself, so that it hears a
request to stop before torch is imported; uses no store and no server.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from align.errors import AlignError, DiskFull, OutOfMemory, Stopped
from align.progress import NoLog, ProgressLog, StopSwitch
from align.run_directory import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_RETRY_SMALLER_BATCH,
    EXIT_STOPPED,
    RunDirectory,
    RunSpec,
)
from align.training.distributed.launcher import HALVED, LAUNCHED, exit_with_parent, launch_group
from align.training.distributed.process_group import ProcessGroup, process_group
from align.training.preload import wait_for_run
from common.files import write_atomic

# With less than this free a checkpoint could not be written.
FULL_BYTES = 4 << 20
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    # Micro-batches differ in length: in blocks of fixed size the gaps between their tensors would stay.
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}


def main(argv: list[str] | None = None) -> int:
    """Train the run in the given directory and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m align.worker", description="Train one run.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("run_dir", type=Path, nargs="?")
    which.add_argument(
        "--warm", action="store_true", help="import first, then read RUN_DIR from standard input"
    )
    given = parser.parse_args(argv)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    exit_with_parent()
    stop = StopSwitch()
    stop.busy = True  # until the run's own progress can say that it was stopped
    with stop.listening():
        path = wait_for_run(stop) if given.warm else given.run_dir
        if path is None:
            return EXIT_STOPPED if stop.requested else EXIT_DONE
        return _execute(RunDirectory(path), stop)


def _execute(run: RunDirectory, stop: StopSwitch) -> int:
    """Train in this process, or launch the processes that train together; return the exit status."""
    group = process_group()
    try:
        spec = run.spec()
        if run.finished:
            return EXIT_DONE
        if not group.is_main or os.environ.get(LAUNCHED):
            return _train(run, spec, stop, group)
        with run.held():
            (run.path / "error.json").unlink(missing_ok=True)
            processes = int(spec.recipe["params"].get("num_processes", 1))
            if processes > 1 and not group.is_distributed and not stop.requested:
                return launch_group(run, processes, stop)
            return _train(run, spec, stop, group)
    except AlignError as error:
        return _fail(run, error.to_dict(), str(error))


def _train(run: RunDirectory, spec: RunSpec, stop: StopSwitch, group: ProcessGroup) -> int:
    log = ProgressLog(run, lambda line: print(line, flush=True)) if group.is_main else NoLog()
    try:
        with stop.obeyed_by(run):
            log.phase("loading")
            group.join()
            from align.training.pipeline import Job, train  # imports torch, which takes seconds

            train(Job(run, spec, log, stop, group))
        group.shut_down()
    except Stopped:
        log.phase("stopped", checkpoints=len(run.checkpoints()))
        return EXIT_STOPPED
    except OutOfMemory as error:
        if group.is_distributed and os.environ.get(LAUNCHED) and _can_halve(spec):
            return EXIT_RETRY_SMALLER_BATCH
        log.phase("failed", error=error.message)
        return _fail(run, error.to_dict(), str(error))
    except AlignError as error:
        log.phase("failed", error=error.message)
        return _fail(run, error.to_dict(), str(error))
    except Exception as error:
        traceback.print_exc()
        facts = _facts(run, error)
        return _fail(run, facts, facts["message"])
    finally:
        log.close()
    return EXIT_DONE


def _facts(run: RunDirectory, error: Exception) -> dict[str, Any]:
    """Return what `error.json` says of an error that is none of ours."""
    facts = {"kind": "error", "message": f"{type(error).__name__}: {error}", "hint": "see worker.log"}
    # torch and safetensors raise errors of their own kind when they could not write.
    if why := _ran_out(error):
        facts |= why
    if getattr(error, "errno", None) == errno.ENOSPC or _disk_is_full(run):
        facts |= {"kind": DiskFull.kind, "hint": "free some space and resume"}
    return facts


def _ran_out(error: Exception) -> dict[str, str]:
    """Return kind and hint of an error by which memory ran out where nothing smaller could be tried."""
    from align.training.memory.running_out import (  # imports torch, which has been imported by now
        HINT_TRAINING,
        ran_out,
    )

    return {} if ran_out(error) is None else {"kind": OutOfMemory.kind, "hint": HINT_TRAINING}


def _disk_is_full(run: RunDirectory) -> bool:
    return shutil.disk_usage(run.path).free < FULL_BYTES


def _fail(run: RunDirectory, facts: dict[str, Any], message: str) -> int:
    print(f"worker: {message}", file=sys.stderr)
    if run.path.is_dir() and (process_group().is_main or run.error() is None):
        write_atomic(run.path / "error.json", json.dumps(facts, indent=2) + "\n")
    return EXIT_FAILED


def _can_halve(spec: RunSpec) -> bool:
    return int(spec.recipe["params"]["per_device_train_batch_size"]) >> int(os.environ.get(HALVED, 0)) > 1


def _end(status: int) -> NoReturn:
    """Exit. At once, without the interpreter's own end, in processes that only compute and in one that is still in its
    process group: threads of torch's process group abort that end now and then, which would count as a failed run.
    """
    group = process_group()
    if not group.is_main or group.is_initialized:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    _end(main())
