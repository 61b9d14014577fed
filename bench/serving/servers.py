"""Servers under test in their own processes: start, load, read processor time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from common.net import free_port  # noqa: F401 - benchmarks take it from here

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def running(argv: list[str], ready: str, key: str = "none", **env: str) -> Iterator[psutil.Process]:
    """Run a server for the block, which starts when `ready` answers 200."""
    process = psutil.Popen(
        argv, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 180
        while True:
            with contextlib.suppress(OSError):
                request = urllib.request.Request(ready, headers={"Authorization": f"Bearer {key}"})
                with urllib.request.urlopen(request, timeout=5):
                    break
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{argv[:3]} did not start")
            time.sleep(0.2)
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        process.wait(20)


def load(url: str, model: str, streams: int, *, key: str, tokens: int = 16, **options: Any) -> Any:
    """Load a server from another process; `options` are those of bench.serving.load."""
    argv = [sys.executable, "-m", "bench.serving.load", url, model, "--streams", str(streams), "--key", key]
    argv += ["--max-tokens", str(tokens)]
    for name, value in options.items():
        argv += [] if value is False else [f"--{name}"] if value is True else [f"--{name}", str(value)]
    out = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    return json.loads(out.stdout)


def cpu(process: psutil.Process) -> float:
    """Return the CPU seconds that a process and its children have used."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)
