"""A real platform as a child process, as `trimtab up` starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

READY_S = 600
"""How long an engine may take to serve on a busy machine, seconds."""
SETTLED = {"published", "canary", "stable", "rejected", "rolled_back", "failed", "cancelled"}
"""States that nothing moves a run out of by itself."""


class PlatformProcess:
    """`trimtab up` on a data directory and a free port. `start` may be called again after `kill` or `stop`."""

    def __init__(self, data: Path, settings: str = "", environment: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.config = data.parent / f"{data.name}.toml"
        self.config.write_text(settings)
        self.environment = dict(os.environ) | {"OMP_NUM_THREADS": "2"} | dict(environment or {})
        self.log = data.parent / f"{data.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def argv(self) -> list[str]:
        """The command line."""
        return [
            *(sys.executable, "-c", "from trimtab.cli import app; app()", "up"),
            *("--config", str(self.config), "--data", str(self.data), "--port", "0"),
        ]

    def start(self, ready: bool = True) -> PlatformProcess:
        """Starts it and waits until it answers, or until its engines serve."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv(), stdout=log, stderr=log, env=self.environment)
        facts = self.data / "platform.json"
        pid = self.process.pid
        wait_for(
            lambda: self._alive() and facts.exists() and json.loads(facts.read_text())["pid"] == pid,
            60,
            self.say,
        )
        self.url = json.loads(facts.read_text())["url"]
        wait_for(lambda: self._alive() and self._answers("/healthz"), 60, self.say)
        if ready:
            wait_for(lambda: self._alive() and self._answers("/readyz"), READY_S, self.say)
        return self

    def _alive(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the platform ended with {self.process.returncode}:\n{self.say()}")
        return True

    def _answers(self, path: str) -> bool:
        try:
            return httpx.get(self.url + path, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def say(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-3000:]

    @property
    def key(self) -> str:
        """The local key of this boot."""
        return str(json.loads((self.data / "platform.json").read_text())["key"])

    def children(self) -> list[psutil.Process]:
        """Every process below the platform: guards, engines, workers and theirs."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> list[psutil.Process]:
        """SIGKILL, as a crash would; returns the processes that it had started."""
        assert self.process is not None
        orphans = self.children()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return orphans

    def stop(self) -> list[psutil.Process]:
        """Ctrl-C; waits for the end and returns the processes that it had started."""
        if self.process is None or self.process.poll() is not None:
            return []
        below = self.children()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the platform did not stop within a minute:\n{self.say()}") from None
        return below

    # ---- asking it

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """One request in single-user mode."""
        return httpx.request(method, self.url + path, timeout=180, **kwargs)

    def get(self, path: str, **kwargs: Any) -> Any:
        """The JSON of a GET that must succeed."""
        response = self.request("GET", path, **kwargs)
        assert response.is_success, response.text
        return response.json()

    def post(self, path: str, body: Any = None, **kwargs: Any) -> Any:
        """The JSON of a POST that must succeed."""
        response = self.request("POST", path, json={} if body is None else body, **kwargs)
        assert response.is_success, response.text
        return response.json()

    def run_to_end(
        self, run_id: str, timeout_s: float = 600, watch: Callable[[dict[str, Any]], None] = lambda run: None
    ) -> dict[str, Any]:
        """The run once nothing moves it any more; `watch` sees it every second until then."""
        found: dict[str, Any] = {}

        def over() -> bool:
            found.clear()
            found.update(self.get(f"/api/runs/{run_id}"))
            watch(found)
            return found["state"] in SETTLED

        wait_for(over, timeout_s, self.say, every=1.0)
        return found


def wait_for(
    condition: Callable[[], bool], timeout_s: float, say: Callable[[], str] = str, every: float = 0.2
) -> None:
    """Returns once `condition` holds; fails with `say()` after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {timeout_s} s:\n{say()}")
        time.sleep(every)
