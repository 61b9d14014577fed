"""The processes of an engine come from one import."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from serve.engine import vllm_preload
from serve.engine.engine import Engine
from serve.engine.spec import EngineSpec, environment

FAMILY = """
import os
import sys

from serve.engine import vllm_preload


def core(pipe):
    inner, end = vllm_preload.Context().Pipe()
    worker = vllm_preload.Context().Process(target=tell, args=(end,))
    worker.start()
    pipe.send((os.environ["SET_LATE"], os.getppid(), *inner.recv()))
    worker.join()


def tell(pipe):
    pipe.send((os.environ["SET_LATE"], os.getppid(), "json" in sys.modules))


if __name__ == "__main__":
    import json

    vllm_preload.start_server()
    os.environ["SET_LATE"] = "yes"
    mine, theirs = vllm_preload.Context().Pipe()
    process = vllm_preload.Context().Process(target=core, args=(theirs,))
    process.start()
    told = mine.recv()
    process.join()
    failing = vllm_preload.Context().Process(target=sys.exit, args=(7,))
    failing.start()
    failing.join()
    print(json.dumps([os.getpid(), told, process.exitcode, failing.exitcode]))
"""


def test_children_and_theirs_are_forked_by_one_process_that_ends_with_them(tmp_path: Path) -> None:
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"PATH": "", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    pid, (late, server, late_below, server_below, imported), status, failed = json.loads(done.stdout)
    assert (late, late_below) == ("yes", "yes"), "each gets its parent's environment, not the server's"
    assert server == server_below != pid
    assert imported, "a fork has what was imported before"
    assert (status, failed) == (0, 7)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(server):
        assert time.monotonic() < deadline, "the forking process outlived those it serves"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("device", "env", "expected"),
    [
        ("cpu", {}, True),
        ("cpu", {"VLLM_CPU_OMP_THREADS_BIND": "0-1"}, False),
        ("cpu", {vllm_preload.SWITCH: "0"}, False),
    ],
)
def test_on_the_cpu_only_where_openmp_is_not_bound(
    device: str, env: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = EngineSpec("e", "base", "hub/model", device=device, env=env)  # type: ignore[arg-type]
    for key, value in environment(spec, "key", Path("/adapters"), Path("/tmp/e")).items():
        monkeypatch.setenv(key, value)
    assert vllm_preload.is_possible() is expected


@pytest.mark.parametrize(("switch", "expected"), [("1", True), ("0", False)])
def test_engines_on_cuda_share_their_imports_too(
    switch: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_preload, "vllm_build", lambda: "vllm")
    monkeypatch.setattr(vllm_preload, "vllm_version", lambda: "0.32.0")
    monkeypatch.setenv(vllm_preload.SWITCH, switch)
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    assert vllm_preload.is_possible() is expected


def test_the_modules_of_both_builds_exist() -> None:
    names = (*vllm_preload.PRELOAD, *(n for names in vllm_preload.PRELOAD_BY_BUILD.values() for n in names))
    where = importlib.util.find_spec("vllm")
    assert where is not None
    assert where.submodule_search_locations is not None
    root = Path(where.submodule_search_locations[0]).parent
    assert [name for name in names if not (root / (name.replace(".", "/") + ".py")).is_file()] == []


PRELOADING = """
import ctypes
import os
import sys
from types import SimpleNamespace

from serve.engine import vllm_preload

open_device = os.open(sys.argv[1], os.O_RDONLY)  # as NVML holds one after counting the cards
def ask(count):
    return 0 if sys.argv[2] in sys.modules else vllm_preload.NOT_INITIALISED
ctypes.CDLL = lambda name: SimpleNamespace(cuDeviceGetCount=ask)
vllm_preload.vllm_build = lambda: "vllm"
print(vllm_preload.share_imports())
"""


@pytest.mark.parametrize(("initialises", "shares"), [("nothing", True), ("vllm.v1.worker.gpu_worker", False)])
def test_imports_are_shared_unless_one_initialises_cuda(
    initialises: str, shares: bool, tmp_path: Path
) -> None:
    """The driver decides; the device file that counting cards leaves open does not."""
    names = ("vllm.utils.system_utils", *vllm_preload.PRELOAD, *vllm_preload.PRELOAD_BY_BUILD["vllm"])
    for name in names:
        file = tmp_path / (name.replace(".", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("def get_mp_context(): return 'spawn'\n")
    for folder in (tmp_path / "vllm").rglob("*"):
        if folder.is_dir():
            (folder / "__init__.py").touch()
    (tmp_path / "vllm" / "__init__.py").touch()
    device = tmp_path / "nvidia-uvm"
    device.touch()
    done = subprocess.run(
        [sys.executable, "-c", PRELOADING, str(device), initialises],
        env={"PATH": "", "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(shares)
    assert (f"importing {initialises} has initialised CUDA" in done.stderr) is not shares


def test_a_machine_without_a_driver_has_not_initialised_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_preload, "CUDA_LIBRARY", "libno-such-driver.so.1")
    assert not vllm_preload.has_initialised_cuda()


@pytest.mark.parametrize("version", ["", "0.31.4", "0.33.0", "1.0"])
def test_a_vllm_version_that_is_not_known_starts_in_its_own_way(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    assert vllm_preload.is_possible()
    monkeypatch.setattr(vllm_preload, "vllm_version", lambda: version)
    assert not vllm_preload.is_possible()


def test_children_start_in_vllms_own_way_when_preloading_fails(tmp_path: Path) -> None:
    """A stand-in for vLLM without one of the modules: what took its function by name calls the one it had."""
    utils = tmp_path / "vllm" / "utils"
    utils.mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").touch()
    (utils / "__init__.py").touch()
    (utils / "system_utils.py").write_text("def get_mp_context(): return 'spawn'")
    code = """
from serve.engine import vllm_preload
assert vllm_preload.share_imports() is False
from vllm.utils.system_utils import get_mp_context
assert get_mp_context() == "spawn"
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "", "PYTHONPATH": f"{tmp_path}:{root}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "one by one" in done.stderr


@pytest.mark.anyio
@pytest.mark.engine
async def test_no_process_of_an_engine_starts_an_interpreter_of_its_own(engine: Engine) -> None:
    assert engine.pid is not None
    server = psutil.Process(engine.pid)
    started = [p for p in server.children(recursive=True) if "resource_tracker" not in " ".join(p.cmdline())]
    assert len(started) >= 3, "the forking process, the engine core and a worker"
    assert {tuple(p.cmdline()) for p in started} == {tuple(server.cmdline())}
