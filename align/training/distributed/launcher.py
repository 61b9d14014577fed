"""Launch the processes of a run that several train together, and act as one worker for the caller.

Each is `python -m align.worker RUN_DIR` with RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set, which is
all that accelerate asks for. A signal to stop is forwarded to all of them; when one fails, the others are
killed. Several hosts are not covered: start the workers with accelerate's or torch's own launcher there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from align.progress import StopSwitch
from align.run_directory import EXIT_DONE, EXIT_FAILED, EXIT_RETRY_SMALLER_BATCH, EXIT_STOPPED, RunDirectory
from common.files import write_atomic
from common.net import free_port

HALVED = "ALIGN_HALVED"
LAUNCHED = "ALIGN_LAUNCHED"
# Timeout for the others to exit after one was stopped: they write a checkpoint, seconds.
GRACE_S = 20.0
_PR_SET_PDEATHSIG = 1


def launch_group(run: RunDirectory, size: int, stop: StopSwitch) -> int:
    """Train with `size` processes on this machine and return the run's exit status.

    `stop` holds a request that came before there were processes to forward it to. When memory runs out in one of them,
    all restart from the newest checkpoint with half the micro-batch.
    """
    halved = 0
    while True:
        statuses = _once(run, size, halved, stop)
        if EXIT_RETRY_SMALLER_BATCH in statuses:
            halved += 1
            continue
        if run.finished:  # the report is written last: what ended badly after it took nothing away
            return EXIT_DONE
        if EXIT_STOPPED in statuses and EXIT_FAILED not in statuses:
            return EXIT_STOPPED
        if run.error() is None:
            ended = ", ".join(f"{rank}: {status}" for rank, status in enumerate(statuses) if status)
            facts = {
                "kind": "worker_ended",
                "message": f"processes ended with {ended}",
                "hint": "see worker.log",
            }
            write_atomic(run.path / "error.json", json.dumps(facts, indent=2) + "\n")
        return EXIT_FAILED


def exit_with_parent() -> None:
    """Have the kernel kill this process when the one that launched it dies."""
    if os.environ.get(LAUNCHED):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ[LAUNCHED]):
            os._exit(EXIT_FAILED)


def _once(run: RunDirectory, size: int, halved: int, stop: StopSwitch) -> list[int]:
    children = _start(run, size, halved)

    def forward(*_: Any) -> None:
        stop.requested = True
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)

    earlier = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    if stop.requested:
        forward()
    try:
        _watch(children)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
        for number, handler in earlier.items():
            signal.signal(number, handler)
    # a process that had no handler yet when the signal came
    early = -signal.SIGTERM if stop.requested else None
    return [EXIT_STOPPED if status == early else status for status in (child.wait() for child in children)]


def _start(run: RunDirectory, size: int, halved: int) -> list[subprocess.Popen[bytes]]:
    threads = max(1, len(os.sched_getaffinity(0)) // size)
    shared = {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        HALVED: str(halved),
        LAUNCHED: str(os.getpid()),
    }
    command = [sys.executable, "-m", "align.worker", str(run.path)]
    return [
        subprocess.Popen(command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(size)
    ]


def _watch(children: list[subprocess.Popen[bytes]]) -> None:
    """Return when all have exited, when one has failed, or after the timeout when one was stopped."""
    deadline = None
    while any(child.poll() is None for child in children):
        ended = [child.returncode for child in children if child.returncode is not None]
        if any(status not in (EXIT_DONE, EXIT_STOPPED) for status in ended):
            return  # the others would wait for it for ever
        if EXIT_STOPPED in ended and deadline is None:
            deadline = time.monotonic() + GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            return
        time.sleep(0.1)
