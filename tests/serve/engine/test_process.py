"""Children under a guard: they stop when asked, and never outlive the platform, their helpers included."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from serve.engine import guard, process
from serve.engine.process import GuardedProcess, ProcessOptions, make_scratch, reap_leftovers
from serve.errors import ProcessFailed

pytestmark = pytest.mark.anyio

# A child that, like vLLM, starts a helper in a session of its own which ignores SIGTERM.
FAMILY = textwrap.dedent("""
    import os, signal, subprocess, sys, time
    helper = subprocess.Popen([sys.executable, "-c", "import signal, time; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"], start_new_session=True)
    print(f"helper {helper.pid} self {os.getpid()}", flush=True)
    time.sleep(300)
""")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def family_of(log: Path, seconds: float = 10) -> list[int]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        words = log.read_text().split() if log.exists() else []
        if len(words) >= 4:
            return [int(words[1]), int(words[3])]
        time.sleep(0.02)
    raise AssertionError("the child did not start")


async def test_exit_status_and_output(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = await GuardedProcess.start(
        [sys.executable, "-c", "print('hello'); raise SystemExit(3)"], ProcessOptions(log=log)
    )
    assert await child.wait() == 3
    assert child.returncode == 3
    assert log.read_text() == "hello\n"


async def test_niceness_applies_to_the_whole_session_of_a_child(tmp_path: Path) -> None:
    """Niceness counts within a session's autogroup, so that of the group counts too, where the kernel has them."""
    log = tmp_path / "child.log"
    told = "import os; print(os.nice(0)); print(open('/proc/self/autogroup').read())"
    child = await GuardedProcess.start([sys.executable, "-c", told], ProcessOptions(log=log, nice=7))
    await child.wait()
    own, *group = log.read_text().splitlines()
    assert int(own) == os.nice(0) + 7
    if Path("/proc/self/autogroup").exists():
        assert group[0].endswith("nice 7")


async def test_stop_ends_the_whole_family(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = await GuardedProcess.start(
        [sys.executable, "-c", FAMILY], ProcessOptions(log=log, state_dir=tmp_path / "s")
    )
    pids = family_of(log)
    assert child.pid == pids[1]
    assert len(list((tmp_path / "s").iterdir())) == 1
    assert await child.stop(grace_s=2) == -signal.SIGTERM
    assert gone_within(pids, 2)
    assert list((tmp_path / "s").iterdir()) == []


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    stubborn = textwrap.dedent("""
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready", flush=True)
        time.sleep(99)
    """)
    log = tmp_path / "child.log"
    child = await GuardedProcess.start([sys.executable, "-c", stubborn], ProcessOptions(log=log))
    while not log.read_text():
        await asyncio.sleep(0.01)
    began = time.monotonic()
    assert await child.stop(grace_s=0.3) == -signal.SIGKILL
    assert 0.3 <= time.monotonic() - began < 3


async def test_a_stopped_child_can_be_stopped(tmp_path: Path) -> None:
    child = await GuardedProcess.start(
        [sys.executable, "-c", "import time; time.sleep(99)"], ProcessOptions(log=tmp_path / "l")
    )
    os.kill(child.pid, signal.SIGSTOP)
    await asyncio.sleep(0.1)
    assert await child.stop(grace_s=5) == -signal.SIGTERM


def test_a_hung_child_is_not_woken_to_be_killed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(guard.os, "kill", lambda pid, number: sent.append(number))
    one = object.__new__(guard.Guard)
    one.child, one.kill_at = SimpleNamespace(poll=lambda: None, pid=1), None  # type: ignore[assignment]
    one.stop(0)
    assert sent == []
    assert one.kill_at is not None
    assert one.kill_at <= time.monotonic()
    one.stop(5)
    assert sent == [signal.SIGTERM, signal.SIGCONT]


async def test_send_line_reaches_a_child_that_reads_input_and_moves_its_log(tmp_path: Path) -> None:
    echo = "import sys; print('waiting', flush=True); print(sys.stdin.readline() + 'heard')"
    first, then = tmp_path / "waiting.log", tmp_path / "told.log"
    child = await GuardedProcess.start(
        [sys.executable, "-c", echo], ProcessOptions(log=first, reads_input=True)
    )
    while not first.read_text().endswith("\n"):
        await asyncio.sleep(0.01)
    child.send_line("/a path/with: spaces", then)
    assert await child.wait() == 0
    assert (first.read_text(), then.read_text()) == ("waiting\n", "/a path/with: spaces\nheard\n")
    assert child.log == then


async def test_helpers_end_when_the_child_ends_by_itself(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    child = await GuardedProcess.start([sys.executable, "-c", FAMILY], ProcessOptions(log=log))
    pids = family_of(log)
    os.kill(child.pid, signal.SIGKILL)
    assert await child.wait() == -signal.SIGKILL
    assert gone_within(pids, 1)


@pytest.mark.parametrize("end", ["stopped", "killed", "guard killed", "never started"])
async def test_a_scratch_directory_goes_with_its_child(end: str, tmp_path: Path) -> None:
    scratch = make_scratch()
    leaves = (
        f"import socket, time; socket.socket(socket.AF_UNIX).bind({str(scratch / 'ipc')!r}); time.sleep(99)"
    )
    argv = ["no-such-program"] if end == "never started" else [sys.executable, "-c", leaves]
    try:
        child = await GuardedProcess.start(argv, ProcessOptions(log=tmp_path / "log", scratch=scratch))
    except ProcessFailed:
        assert end == "never started"
    else:
        while not (scratch / "ipc").exists():
            await asyncio.sleep(0.01)
        if end == "stopped":
            await child.stop()
        else:
            os.kill(child.pid if end == "killed" else child.guard_pid, signal.SIGKILL)
            await child.wait()
    assert not scratch.exists()


@pytest.mark.parametrize("given", ["short", "long" * 20])
def test_a_socket_fits_into_a_scratch_directory(
    given: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path_factory.mktemp(given)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    scratch = make_scratch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(scratch / str(uuid.uuid4())))
    assert (scratch.parent == directory) == (given == "short")
    shutil.rmtree(scratch)


@pytest.mark.parametrize("how", ["killed", "deaf to SIGTERM", "killed while its tracker starts"])
async def test_shared_memory_of_a_killed_family_is_deleted(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its resource tracker does that, if it may; a second process has the memory open, as vLLM's workers have."""
    log = tmp_path / "log"
    if how == "killed while its tracker starts":
        (tmp_path / "sitecustomize.py").write_text(
            "import sys, time\nif 'resource_tracker' in ' '.join(sys.orig_argv[-1:]): time.sleep(1.5)"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    family = textwrap.dedent("""
        import os, signal, time
        from multiprocessing.shared_memory import SharedMemory
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        memory = SharedMemory(create=True, size=4096)
        if os.fork():
            print(memory.name, flush=True)
        time.sleep(99)
    """)
    child = await GuardedProcess.start([sys.executable, "-c", family], ProcessOptions(log=log))
    while not log.read_text().endswith("\n"):
        await asyncio.sleep(0.01)
    segment = Path("/dev/shm", log.read_text().strip())
    assert segment.exists()
    if how != "deaf to SIGTERM":
        os.kill(child.pid, signal.SIGKILL)
    assert await child.stop(grace_s=0.1) == -signal.SIGKILL
    assert not segment.exists()


async def test_a_cancelled_start_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = (
        tmp_path / "slow_guard.py"
    )  # so that the start is cancelled before the guard has said what it started
    real = str(process.GUARD)
    slow.write_text(f"import runpy, time; time.sleep(1); runpy.run_path({real!r}, run_name='__main__')")
    monkeypatch.setattr(process, "GUARD", slow)
    us = psutil.Process()
    before = set(us.children())
    starting = asyncio.create_task(
        GuardedProcess.start([sys.executable, "-c", FAMILY], ProcessOptions(log=tmp_path / "log"))
    )
    while not (guards := set(us.children()) - before):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(starting, 20)
    (guard,) = guards
    assert gone_within([guard.pid], 20)
    assert not set(us.children()) - before


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match="no-such-program"):
        await GuardedProcess.start(["no-such-program"], ProcessOptions(log=tmp_path / "log"))


def scratch_of(tmp_path: Path) -> Path:
    return tmp_path / "trimtab-scratch"


def start_platform(tmp_path: Path) -> tuple[subprocess.Popen[bytes], list[int], int]:
    """A stand-in platform process that starts the family and then sleeps."""
    scratch_of(tmp_path).mkdir()
    script = textwrap.dedent(f"""
        import asyncio, sys
        from pathlib import Path
        from serve.engine.process import GuardedProcess, ProcessOptions
        async def main():
            child = await GuardedProcess.start([sys.executable, "-c", {FAMILY!r}], ProcessOptions(
                orphan_grace_s=0.5, scratch=Path({str(scratch_of(tmp_path))!r}),
                log=Path({str(tmp_path / "child.log")!r}), state_dir=Path({str(tmp_path / "state")!r})))
            print(child.guard_pid, flush=True)
            await asyncio.sleep(300)
        asyncio.run(main())
    """)
    platform = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert platform.stdout is not None
    guard_pid = int(platform.stdout.readline())
    return platform, family_of(tmp_path / "child.log"), guard_pid


def test_killed_platform_ends_its_process_group(tmp_path: Path) -> None:
    platform, pids, guard_pid = start_platform(tmp_path)
    platform.kill()
    platform.wait()
    assert gone_within([*pids, guard_pid], 5)
    assert not scratch_of(tmp_path).exists()


def test_leftovers_are_reaped_when_the_guard_was_killed_too(tmp_path: Path) -> None:
    platform, pids, guard_pid = start_platform(tmp_path)
    os.kill(guard_pid, signal.SIGSTOP)  # else it may see the platform's end before its own
    platform.kill()
    os.kill(guard_pid, signal.SIGKILL)
    platform.wait()
    assert gone_within(pids[1:], 2), "the kernel ends the direct child with its guard"
    assert alive(pids[0]), "the helper in a session of its own is the leftover of this test"
    assert scratch_of(tmp_path).exists()
    # A record whose marker nobody carries harms nobody.
    (tmp_path / "state" / "old.json").write_text(json.dumps({"marker": "unknown", "pid": os.getpid()}))
    assert reap_leftovers(tmp_path / "state") == 1
    assert gone_within(pids, 2)
    assert not scratch_of(tmp_path).exists()
    assert reap_leftovers(tmp_path / "state") == 0


def test_the_log_is_rotated(tmp_path: Path) -> None:
    log = guard.RotatingLog(str(tmp_path / "log"), max_bytes=100, keep=2)
    for n in range(10):
        log.write(f"{n}".encode() * 40)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(p.stat().st_size <= 100 for p in tmp_path.iterdir())
    assert (tmp_path / "log").read_text().endswith("9" * 40)


def test_the_guard_needs_only_the_standard_library() -> None:
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({guard.__file__!r})"], check=True
    )
