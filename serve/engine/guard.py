"""The guard: runs one child and outlives neither the platform nor any process that the child starts.

    python -I -S serve/engine/guard.py OPTIONS_JSON -- ARGV...

The platform holds the other end of the guard's standard input. The guard ends the child's whole family (its
process group, its descendants, and everything that carries its marker in the environment) when that pipe
closes, which the kernel does however the platform ends; when the platform asks (`stop SECONDS`); and when
the child itself ends, so that no helper process survives its parent. It answers on standard output with one
JSON object per line: `{"pid": n}` after the start and `{"exit": status}` at the end (negative: ended by that
signal).

The child's output goes through the guard into a log file that is rotated by size (`log`, `log.1`, …). Should
the guard itself be killed, the kernel kills the child (PR_SET_PDEATHSIG), and what is left carries the
marker, by which `reap_marked` finds it. Standard library only, and run without site-packages: it starts in
about 20 ms and holds about 10 MB. Linux; elsewhere it falls back on process groups.

OPTIONS: `log` path, `max_bytes` and `keep` of the rotation, `orphan_grace_s` (seconds between SIGTERM and
SIGKILL when the platform is gone), `state` path of the record that `reap_leftovers` reads, `marker`, `nice` the
child's niceness, `input` whether the child reads its standard input, `scratch` a directory that goes with the family.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from typing import IO, Any

MARKER = "TRIMTAB_PROCESS"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TRACKER_S = 5.0  # a tracker that was just started has Python to load first: seconds on a busy machine


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def be_nice(niceness: int) -> None:
    """Lower this process's priority, and that of its session.

    Where Linux groups the processes of a session for scheduling (autogroup, the default on most distributions), each
    session gets an equal share of the cores, and niceness counts only among the processes of one.
    """
    os.nice(niceness)
    for _ in range(5):
        try:
            with open("/proc/self/autogroup", "w", encoding="ascii") as file:
                file.write(str(niceness))
            return
        except BlockingIOError:  # the kernel takes ten changes per second
            time.sleep(0.12)
        except OSError:  # no such kernel, or not allowed: the process's own niceness stays
            return


class RotatingLog:
    """An append-only log of bytes that is renamed to `path.1`, `path.2`, … when it passes `max_bytes`."""

    def __init__(self, path: str, max_bytes: int, keep: int) -> None:
        self.path, self.max_bytes, self.keep = path, max_bytes, keep
        self._open()

    def _open(self) -> None:
        self._file: IO[bytes] = open(self.path, "ab", buffering=0)  # noqa: SIM115
        self._size = self._file.tell()

    def move_to(self, path: str) -> None:
        """Continue in another file; what was written stays where it is."""
        with contextlib.suppress(OSError):
            file = open(path, "ab", buffering=0)  # noqa: SIM115
            self._file.close()
            self.path, self._file, self._size = path, file, file.tell()

    def write(self, data: bytes) -> None:
        """Append; a full disk loses log lines rather than stopping the child."""
        with contextlib.suppress(OSError):
            if self._size + len(data) > self.max_bytes:
                self._rotate()
            self._file.write(data)
            self._size += len(data)

    def _rotate(self) -> None:
        self._file.close()
        for n in range(self.keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}.{n}", f"{self.path}.{n + 1}")
        if self.keep:
            os.replace(self.path, f"{self.path}.1")
        else:
            os.truncate(self.path, 0)
        self._open()


def marked(marker: str) -> list[int]:
    """Return the ids of processes, other than this one, whose environment carries `marker`."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            if wanted in file.read().split(b"\0"):
                found.append(int(name))
    return found


def _signal_all(pids: list[int], group: int | None, sig: int) -> None:
    if group is not None:
        with contextlib.suppress(OSError):
            os.killpg(group, sig)
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, sig)


def reap_marked(marker: str, group: int | None = None) -> int:
    """SIGKILL every process that carries `marker`, again until none is left or for `TRACKER_S` + 2 s; returns how many there
    were.

    Python's resource trackers come last and have `TRACKER_S` to end by themselves: once their family is gone they delete its
    shared memory, of which vLLM leaves hundreds of megabytes.
    """
    seen: set[int] = set()
    spared_until = time.monotonic() + TRACKER_S
    while time.monotonic() < spared_until + 2:
        pids = [pid for pid in marked(marker) if not _is_zombie(pid)]
        if not pids:
            break
        seen.update(pids)
        spared = [pid for pid in pids if time.monotonic() < spared_until and _is_tracker(pid)]
        _signal_all([pid for pid in pids if pid not in spared], None if spared else group, signal.SIGKILL)
        time.sleep(0.02)
    _signal_all([], group, signal.SIGKILL)
    return len(seen)


def _is_tracker(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"multiprocessing.resource_tracker" in file.read()
    except OSError:
        return False


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()[0] == b"Z"
    except OSError:
        return True


class Guard:
    """One guarded child: see the module's text for the protocol."""

    def __init__(self, options: dict[str, Any], argv: list[str]) -> None:
        self.options = options
        self.marker = str(options["marker"])
        self.log = RotatingLog(options["log"], int(options["max_bytes"]), int(options["keep"]))
        self.kill_at: float | None = None
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the child leaves behind becomes ours to see and to end
        self.wake_r, wake_w = os.pipe()
        os.set_blocking(wake_w, False)
        os.set_blocking(self.wake_r, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stop(float(options["orphan_grace_s"])))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        me = os.getpid()

        def in_child() -> None:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != me:
                os._exit(1)
            if niceness := int(options.get("nice", 0)):
                be_nice(niceness)

        self.child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if options.get("input") else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, MARKER: self.marker},
            start_new_session=True,
            preexec_fn=in_child,
        )

    def report(self, **fact: Any) -> None:
        """Write one fact to the platform; a closed pipe is no error."""
        with contextlib.suppress(OSError):
            os.write(1, json.dumps(fact).encode() + b"\n")

    def stop(self, grace_s: float) -> None:
        """SIGTERM to the child now, SIGKILL to all of its family after `grace_s` seconds.

        Without grace it is SIGKILL alone: a hung child that is woken by SIGTERM could end its answers as if they were whole.
        """
        if grace_s > 0 and self.child.poll() is None:
            with contextlib.suppress(OSError):
                os.kill(self.child.pid, signal.SIGTERM)
                os.kill(self.child.pid, signal.SIGCONT)  # a stopped process does not see SIGTERM
        deadline = time.monotonic() + grace_s
        self.kill_at = min(deadline, self.kill_at or deadline)

    def run(self) -> int:
        """Serve until the child and its family are gone; returns the child's exit status."""
        self.report(pid=self.child.pid)
        out = self.child.stdout
        assert out is not None
        os.set_blocking(out.fileno(), False)
        os.set_blocking(0, False)
        watch = selectors.DefaultSelector()
        watch.register(0, selectors.EVENT_READ, "platform")
        watch.register(out.fileno(), selectors.EVENT_READ, "output")
        watch.register(self.wake_r, selectors.EVENT_READ, "signal")
        commands = b""
        while self.child.poll() is None:
            wait = None if self.kill_at is None else max(0.0, self.kill_at - time.monotonic())
            for key, _ in watch.select(wait):
                if key.data == "signal":
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wake_r, 512)
                elif key.data == "output":
                    if not self._copy_output(out.fileno()):
                        watch.unregister(out.fileno())
                else:
                    data = self._read(0)
                    if data == b"":
                        watch.unregister(0)
                        self.stop(float(self.options["orphan_grace_s"]))
                    commands += data or b""
                    *lines, commands = commands.split(b"\n")
                    for line in lines:
                        self._command(line.decode())
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                _signal_all([self.child.pid], None, signal.SIGKILL)
        reap_marked(self.marker, self.child.pid)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        while self._copy_output(out.fileno()) == 65536:
            pass
        status = int(self.child.returncode)
        if scratch := self.options.get("scratch"):
            shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):
            if state := self.options.get("state"):
                os.unlink(state)
        self.report(exit=status)
        return status

    def _command(self, line: str) -> None:
        word, _, value = line.partition(" ")
        if word == "stop":
            self.stop(float(value))
        elif word == "line" and self.child.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended; its exit status says so
                self.child.stdin.write(value.encode() + b"\n")
                self.child.stdin.flush()
        elif word == "log":
            self.log.move_to(value)

    def _copy_output(self, fd: int) -> int:
        data = self._read(fd)
        if data:
            self.log.write(data)
        return -1 if data is None else len(data)

    @staticmethod
    def _read(fd: int) -> bytes | None:
        try:
            return os.read(fd, 65536)
        except BlockingIOError:
            return None
        except OSError:
            return b""


def main(argv: list[str]) -> int:
    """Run the guard from its command line; exits with 0 whatever the child's status, which it says
    instead."""
    separator = argv.index("--")
    options, command = json.loads(argv[separator - 1]), argv[separator + 1 :]
    try:
        guard = Guard(options, command)
    except (OSError, subprocess.SubprocessError) as error:
        print(json.dumps({"error": f"{command[0]}: {error}"}), flush=True)
        return 1
    if state := options.get("state"):
        record = {"marker": guard.marker, "pid": guard.child.pid, "guard": os.getpid(), "argv": command[:4]}
        if scratch := options.get("scratch"):
            record["scratch"] = scratch
        with open(state, "w", encoding="utf-8") as file:
            json.dump(record, file)
    guard.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
