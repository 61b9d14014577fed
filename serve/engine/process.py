"""Child processes that cannot outlive the platform.

Each child runs under its own `serve.engine.guard`, a small process that sees the platform's end as the end of a
pipe and then ends the child and everything the child started (vLLM's engine core and workers).
`reap_leftovers` covers the one case left, in which the guard was killed too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.engine import guard
from serve.errors import ProcessFailed

GUARD = Path(guard.__file__)
SCRATCH = "trimtab-"
SCRATCH_BYTES = 107 - len("/8b0f4ac2-5d36-4e0b-9a7f-1c2d3e4f5a6b")
"""How long the path of a scratch directory may be: a Unix socket's has at most 107 bytes, and vLLM names its sockets so."""


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """How a child is run; its output goes to `log`, which is rotated at `log_max_bytes`, `log_keep` older ones kept.

    `env` None is this process's environment. `state_dir` keeps a record for `reap_leftovers` while the child lives.
    `orphan_grace_s` is the time between SIGTERM and SIGKILL when the platform is gone, `nice` (0 to 19) the niceness of
    the child. `reads_input` gives it a standard input for `send_line`. `scratch`, a directory of `make_scratch`, is
    deleted once the child and its family have ended, in whatever way.
    """

    log: Path
    env: Mapping[str, str] | None = None
    state_dir: Path | None = None
    orphan_grace_s: float = 5.0
    nice: int = 0
    reads_input: bool = False
    scratch: Path | None = None
    log_max_bytes: int = 16 * 2**20
    log_keep: int = 3

    def for_guard(self, marker: str) -> dict[str, object]:
        """Return the options of `serve.engine.guard`; `marker` is in the environment of the child's whole family."""
        options: dict[str, object] = {
            "marker": marker,
            "log": str(self.log),
            "max_bytes": self.log_max_bytes,
            "keep": self.log_keep,
            "orphan_grace_s": self.orphan_grace_s,
            "nice": self.nice,
            "input": self.reads_input,
        }
        if self.state_dir is not None:
            options["state"] = str(self.state_dir / f"{marker}.json")
        if self.scratch is not None:
            options["scratch"] = str(self.scratch)
        return options


class GuardedProcess:
    """A running child under its guard; made by `start`. `pid` is the child's own, not the guard's."""

    def __init__(
        self, process: asyncio.subprocess.Process, pid: int, log: Path, scratch: Path | None = None
    ) -> None:
        self._guard = process
        self._scratch = scratch
        self.pid = pid
        self.guard_pid = process.pid
        self.log = log
        self._exit: asyncio.Task[int] = asyncio.create_task(self._read_exit())

    @classmethod
    async def start(cls, argv: Sequence[str], options: ProcessOptions) -> GuardedProcess:
        """Start `argv` in a session of its own, so that a terminal's Ctrl-C reaches the platform alone.

        Raises `ProcessFailed` when the program cannot be run. A cancelled start leaves no process.
        """
        marker = uuid.uuid4().hex
        process: asyncio.subprocess.Process | None = None
        await asyncio.to_thread(_make_directories, options.log.parent, options.state_dir)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", str(GUARD), json.dumps(options.for_guard(marker)), "--", *argv),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=dict(os.environ if options.env is None else options.env),
                start_new_session=True,
            )
            assert process.stdout is not None
            first = await process.stdout.readline()
            fact = json.loads(first) if first else {"error": "the guard ended before it started the program"}
            if "error" in fact:
                await process.wait()
                raise ProcessFailed(str(fact["error"]))
        except BaseException:  # a cancelled start too
            if process is not None:
                await _end(process)
            if options.scratch is not None:
                shutil.rmtree(options.scratch, ignore_errors=True)
            raise
        return cls(process, int(fact["pid"]), options.log, options.scratch)

    async def _read_exit(self) -> int:
        assert self._guard.stdout is not None
        status: int | None = None
        async for line in self._guard.stdout:
            with contextlib.suppress(ValueError):
                status = json.loads(line).get("exit", status)
        await self._guard.wait()
        if status is not None:
            return status
        if self._scratch is not None:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        return -9  # no word from the guard: it was killed, and its child with it

    @property
    def returncode(self) -> int | None:
        """The child's exit status, None while it runs; negative for the signal that ended it."""
        return self._exit.result() if self._exit.done() else None

    async def wait(self) -> int:
        """Wait until the child and all it started are gone; returns the child's exit status."""
        return await asyncio.shield(self._exit)

    async def stop(self, grace_s: float = 10.0) -> int:
        """SIGTERM the child, SIGKILL its whole family after `grace_s` seconds (0: at once); returns the exit status."""
        self._send(f"stop {grace_s}")
        return await self.wait()

    def send_line(self, line: str, log: Path | None = None) -> None:
        """Write a line to the standard input of a child that `reads_input`; with `log`, redirect its output there first."""
        if log is not None:
            self.log = log
            self._send(f"log {log}")
        self._send(f"line {line}")

    def _send(self, line: str) -> None:
        stdin = self._guard.stdin
        if stdin is not None and not stdin.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                stdin.write(line.encode() + b"\n")


async def _end(guard: asyncio.subprocess.Process) -> None:
    """Kill the family of a guard that nobody else holds."""
    if guard.stdin is not None:
        with contextlib.suppress(OSError):
            guard.stdin.write(b"stop 0\n")
            guard.stdin.close()
    await guard.wait()


def _make_directories(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)


def make_scratch() -> Path:
    """Make a directory for the temporary files and sockets of one child, short enough for a socket's path. Blocking."""
    given = tempfile.gettempdir()
    too_long = len(os.fsencode(given)) + len(f"/{SCRATCH}12345678") > SCRATCH_BYTES
    return Path(tempfile.mkdtemp(prefix=SCRATCH, dir="/tmp" if too_long else given))


def reap_leftovers(state_dir: Path) -> int:
    """End what an earlier platform left behind when even its guards were killed; returns how many processes.

    Their scratch directories go too. Only processes that carry a recorded marker in their environment are touched, so a
    reused process id is safe. Call it before starting anything with the same `state_dir`. Blocking.
    """
    ended = 0
    for record in sorted(state_dir.glob("*.json")) if state_dir.is_dir() else []:
        with contextlib.suppress(ValueError, KeyError, OSError):
            facts = json.loads(record.read_text(encoding="utf-8"))
            ended += guard.reap_marked(str(facts["marker"]))
            if Path(scratch := str(facts.get("scratch", ""))).name.startswith(SCRATCH):
                shutil.rmtree(scratch, ignore_errors=True)
        record.unlink(missing_ok=True)
    return ended
