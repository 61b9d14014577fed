"""Whether a process and its children compute, or would if they got a core: what tells a slow engine from a dead one.

A thread that computes is running or waiting for a core all the time, however few cores it gets; one that waits for an
answer that never comes is neither, and a stopped process (SIGSTOP) least of all.
"""

from __future__ import annotations

import time
from pathlib import Path

import psutil

COMPUTING = 0.5
"""Share of the time that a thread wants a core from which it counts as computing; idle engines stay below 0.05."""
COMPUTING_CPU = 0.05
"""The same where the kernel does not count the wait for a core: share of the time on a core, of a whole process."""

Times = dict[tuple[int, str], float]


class ProcessorUse:
    """Samples of the processes below `pid`, one at a time; each compares with the one before. Blocking."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._at = 0.0
        self._threads: Times = {}
        self._processes: Times = {}

    def sample(self) -> bool:
        """Tell whether the family computed since the last sample; False at the first and while one of it is stopped."""
        now, before = time.monotonic(), self._at
        threads, processes, stopped = _read_family(self._pid)
        wanted = max(_growth(self._threads, threads), default=0.0)
        on_core = max(_growth(self._processes, processes), default=0.0)
        self._at, self._threads, self._processes = now, threads, processes
        if stopped or not before:
            return False
        elapsed = max(now - before, 1e-3)
        return wanted / elapsed >= COMPUTING if threads else on_core / elapsed >= COMPUTING_CPU


def _growth(before: Times, after: Times) -> list[float]:
    return [seconds - before[key] for key, seconds in after.items() if key in before]


def _read_family(pid: int) -> tuple[Times, Times, bool]:
    """Read the seconds that each thread ran or waited for a core, and each process ran; and whether one is stopped."""
    threads: Times = {}
    processes: Times = {}
    stopped = False
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return {}, {}, False
    for process in family:
        try:
            stopped = stopped or process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
            times = process.cpu_times()
        except psutil.Error:
            continue  # it ended meanwhile
        processes[process.pid, ""] = times.user + times.system
        threads |= _read_threads(process.pid)
    return threads, processes, stopped


def _read_threads(pid: int) -> Times:
    found: Times = {}
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            ran, waited, _ = (thread / "schedstat").read_text(encoding="ascii").split()
            found[pid, thread.name] = (int(ran) + int(waited)) / 1e9
    except (OSError, ValueError):  # no such kernel, or the thread has ended
        return found
    return found
