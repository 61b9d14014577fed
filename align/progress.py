"""What a running worker reports (`progress.jsonl`), and requests to stop.

Imports no torch, so that the worker handles signals before the slow imports begin.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from align.errors import Stopped
from align.run_directory import RunDirectory

POLL_SECONDS = 0.5


class ProgressLog:
    """Appends rows to `progress.jsonl` and prints them on stdout. A line is written whole or, after a kill,
    truncated."""

    def __init__(self, run: RunDirectory, echo: Callable[[str], None] = lambda line: None) -> None:
        self._echo = echo
        path = run.path / "progress.jsonl"
        torn = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
        self._file = path.open("a")
        if torn:
            self._file.write("\n")

    def write(self, kind: str, **values: Any) -> None:
        """Append one row of `kind` with the time in seconds since 1970."""
        row = {"kind": kind, "time": round(time.time(), 3), **values}
        self._file.write(json.dumps(row, default=float) + "\n")
        self._file.flush()
        self._echo(" ".join(f"{k}={_short(v)}" for k, v in row.items() if k != "time"))

    def phase(self, phase: str, **values: Any) -> None:
        """Report which phase of the run begins."""
        self.write("phase", phase=phase, **values)

    def note(self, message: str) -> None:
        """Report a message for the reader of the run."""
        self.write("note", message=message)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NoLog(ProgressLog):
    """The log of a process that is not the main one of its group: it writes nothing."""

    def __init__(self) -> None:
        pass

    def write(self, kind: str, **values: Any) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Nothing to close."""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class StopSwitch:
    """Turns SIGTERM, SIGINT and, once `run` is known, its file `stop` into `Stopped`, raised in the main thread between
    two operations.

    While `busy` is set (a checkpoint is being written, or nobody could take `Stopped` yet) nothing is raised: the request
    waits in `requested` and whoever set `busy` looks at it.
    """

    def __init__(self, run: RunDirectory | None = None) -> None:
        self.run = run
        self.requested = False
        self.busy = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs, in the main thread; put the earlier handlers back afterwards."""
        earlier = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)
        }
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,), daemon=True, name="stop-file")
        watcher.start()
        try:
            yield
        finally:
            self.busy = True
            over.set()
            watcher.join()
            for number, handler in earlier.items():
                signal.signal(number, handler)

    @contextmanager
    def obeyed_by(self, run: RunDirectory) -> Iterator[None]:
        """Raise `Stopped` while the block runs, at its beginning if the request was there before; not after it."""
        self.run, self.busy = run, False
        try:
            self.check()
            yield
        finally:
            self.busy = True

    def _on_signal(self, number: int, frame: Any) -> None:
        first = not self.requested
        self.requested = True
        if first and not self.busy:
            raise Stopped("asked to stop")

    def check(self) -> None:
        """Raise `Stopped` if it was asked for."""
        if self.requested:
            raise Stopped("asked to stop")

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(POLL_SECONDS):
            if self.run is not None and self.run.stop_requested():
                os.kill(os.getpid(), signal.SIGTERM)
                return
