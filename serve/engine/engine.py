"""One engine: a vLLM server, started, watched and restarted here, or external.

Knows vLLM's HTTP API and the life of its process; knows no deployment, release or store. An engine is ready when a
probe generated a token with a finite log-probability: vLLM answers /health with 200 even while a damaged adapter
silences every model. Any exit that was not asked for is a crash, whatever the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
import math
import re
import secrets
import socket
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import aiohttp
import orjson

from serve.engine.failure_reasons import cause
from serve.engine.process import GuardedProcess, make_scratch
from serve.engine.spec import EngineSpec, command, environment
from serve.engine.stream_client import Connection, HttpStream, StreamBroken
from serve.errors import AdapterNotLoaded, DrainTimeout, EngineFailed, ProcessFailed

__all__ = ["Engine", "EngineSpec", "error_message"]

log = logging.getLogger(__name__)
State = Literal["stopped", "starting", "ready", "failed"]
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
SETTLE_S = 0.25  # how long an aborted request may go on in the engine after its client left
BEHIND_GATEWAY = 10  # niceness of an engine that computes on the cores which the gateway answers from
STEADY_S = 300.0  # an engine that served this long starts again at the shortest back-off


class Engine:
    """One vLLM server. Belongs to the event loop in which `start` was awaited.

    `state` is stopped, starting, ready or failed (waiting for the next start); `detail` says more in words.
    `outstanding` counts requests under way through `lease`, `in_flight` the same by adapter; `queue` those that waited
    for a place in the batch when `read_queue` last asked; `loaded` are the adapters known to be registered; `boots`
    counts the starts, `restarts` those after the first.
    """

    def __init__(self, spec: EngineSpec, data_dir: Path) -> None:
        self.spec = spec
        self.state: State = "stopped"
        self.detail = "not started"
        self.url = spec.url or ""
        self.boots = 0
        self.outstanding = 0
        self.in_flight: Counter[str] = Counter()
        self.loaded: set[str] = set()
        self.queue: int | None = None
        self.last_sign_of_life = 0.0
        self.starting_since = 0.0
        self.on_ready: list[Callable[[Engine], Awaitable[None]]] = []
        self.log_path = data_dir / "logs" / f"engine-{spec.name}.log"
        self.adapters_dir = data_dir / "adapters"
        self._log_from = 0  # where this boot's output begins
        self._state_dir = data_dir / "processes"
        self._key = spec.api_key or secrets.token_urlsafe(32)
        self._session: aiohttp.ClientSession | None = None
        self._stream: HttpStream | None = None
        self._process: GuardedProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._changed = asyncio.Event()
        self._load_lock = asyncio.Lock()
        self._closed: dict[str, asyncio.Event | None] = {}

    # ---- life

    @property
    def pid(self) -> int | None:
        """Process id of the vLLM server, None when it is not running here."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def restarts(self) -> int:
        """How often the server was started again."""
        return max(0, self.boots - 1)

    async def start(self) -> None:
        """Begin starting and supervising; returns at once. See `wait_ready`."""
        if self._task is None:
            self._stopping = False
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                headers={"Authorization": f"Bearer {self._key}"},
            )
            self._set("starting", "starting")
            self._task = asyncio.create_task(self._supervise(), name=f"engine {self.spec.name}")

    async def stop(self) -> None:
        """Stop supervising, let running requests finish for `spec.drain_s`, and end the server."""
        self._stopping = True
        self._set("stopped", "stopping")
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._process is not None:
            await self._process.stop(self.spec.drain_s + 5 if self.outstanding else 5)
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._session is not None:
            await self._session.close()
            self._session = None
        self._set("stopped", "stopped")

    async def wait_ready(self, timeout: float) -> None:
        """Wait until the engine serves; raises `EngineFailed` after `timeout` seconds, saying what it does."""
        end = time.monotonic() + timeout
        while self.state != "ready":
            left = end - time.monotonic()
            if left <= 0:
                raise EngineFailed(self.spec.name, f"not ready after {timeout:.0f} s ({self.detail})")
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, 1.0))

    def _set(self, state: State, detail: str) -> None:
        if state != self.state:
            log.info("engine %s: %s (%s)", self.spec.name, state, detail)
        self.state, self.detail = state, detail
        self._changed.set()

    async def _supervise(self) -> None:
        failures = 0
        while not self._stopping:
            self.boots += 1
            self.loaded.clear()
            self.starting_since = time.monotonic()
            ready_since = math.inf
            try:
                await self._launch()
                self._stream = HttpStream(self.url, {"authorization": f"Bearer {self._key}"})
                await self._until_serving()
                await self._announce()
                ready_since = time.monotonic()
                self._set("ready", "serving")
                await self._watch()
            except (EngineFailed, ProcessFailed) as error:
                why = error.message if isinstance(error, EngineFailed) else str(error)
            if time.monotonic() - ready_since > STEADY_S:
                failures = 0
            wait = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            if self._stream is not None:
                self._stream.close()
            self._set("failed", f"{why}; next start in {wait:.0f} s")
            log.error("engine %s: %s", self.spec.name, why)
            if self._process is not None:
                await self._process.stop(0 if ready_since < math.inf else 2)
            await asyncio.sleep(wait)

    async def _launch(self) -> None:
        if self.spec.url is not None:
            self.url = self.spec.url.rstrip("/")
            self._set("starting", f"waiting for {self.url}")
            return
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._set("starting", f"loading {self.spec.model}")
        await asyncio.to_thread(self.adapters_dir.mkdir, parents=True, exist_ok=True)
        self._log_from = self._log_size()
        scratch = await asyncio.to_thread(_make_scratch)
        self._process = await GuardedProcess.start(
            command(self.spec, port),
            env=environment(self.spec, self._key, self.adapters_dir, scratch),
            scratch=scratch,
            log=self.log_path,
            state_dir=self._state_dir,
            orphan_grace_s=3.0,
            nice=BEHIND_GATEWAY if self.spec.on_cpu else 0,
        )

    async def _until_serving(self) -> None:
        end = time.monotonic() + self.spec.start_timeout_s
        while True:
            self._raise_if_ended()
            if time.monotonic() > end:
                raise EngineFailed(self.spec.name, self._why("did not serve in time", None))
            try:
                await self.request("GET", "/health", timeout=5)
                break
            except EngineFailed:
                seconds = time.monotonic() - self.starting_since
                self.detail = f"loading {self.spec.model} for {seconds:.0f} s (usually under two minutes)"
                await asyncio.sleep(0.2)
        await self.probe(self.spec.start_timeout_s)

    async def _announce(self) -> None:
        for callback in self.on_ready:
            try:
                await asyncio.wait_for(callback(self), 120)
            except Exception:
                log.exception("engine %s: loading its adapters failed; they load on demand", self.spec.name)

    async def _watch(self) -> None:
        """Return never: raises `EngineFailed` when the server ended, hangs or answers nonsense."""
        self.last_sign_of_life = time.monotonic()
        while True:
            if self._process is None:
                await asyncio.sleep(self.spec.probe_interval_s)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), self.spec.probe_interval_s)
            self._raise_if_ended()
            if time.monotonic() - self.last_sign_of_life < self.spec.probe_interval_s:
                continue  # answers are streaming: no better proof
            asked = time.monotonic()
            try:
                await self.probe(self.spec.probe_timeout_s)
            except EngineFailed as error:
                self._raise_if_ended()
                if time.monotonic() - asked > self.spec.probe_timeout_s + 1:
                    continue  # it was this event loop that stood still
                raise EngineFailed(self.spec.name, f"it hangs: {error.message}") from error

    def _raise_if_ended(self) -> None:
        process = self._process
        if process is not None and self.spec.url is None and process.returncode is not None:
            raise EngineFailed(self.spec.name, self._why("ended", process.returncode))

    def _why(self, what: str, status: int | None) -> str:
        return f"{what}: {cause(self.log_tail(200, self._log_from), status)}"

    async def probe(self, timeout: float) -> None:
        """Generate one token; raises `EngineFailed` unless its log-probability is a finite number."""
        body = {"model": self.spec.base, "prompt": "Hello", "max_tokens": 1, "temperature": 0, "logprobs": 1}
        answer = await self.request("POST", "/v1/completions", body | {"ignore_eos": True}, timeout=timeout)
        try:
            logprob = answer["choices"][0]["logprobs"]["token_logprobs"][0]
            sound = isinstance(logprob, float | int) and math.isfinite(logprob)
        except (KeyError, IndexError, TypeError):
            sound = False
        if not sound:
            raise EngineFailed(self.spec.name, "a probe did not generate a token")
        self.last_sign_of_life = time.monotonic()

    async def read_queue(self) -> None:
        """Ask how many requests wait for a place in the batch; `queue` is None when the engine does not say."""
        self.queue = None
        if self.state == "ready":
            with contextlib.suppress(EngineFailed):
                text = str(await self.request("GET", "/metrics", timeout=2))
                found = re.findall(r"^vllm:num_requests_waiting\{.*\} (\S+)$", text, re.MULTILINE)
                self.queue = sum(int(float(value)) for value in found) if found else None

    # ---- adapters

    async def adapters(self) -> dict[str, str]:
        """Return the registered adapters, name to directory, as the server lists them."""
        listing = await self.request("GET", "/v1/models")
        found = {card["id"]: card["root"] for card in listing["data"] if card.get("parent")}
        self.loaded = set(found)
        return found

    async def load_adapter(self, name: str, path: Path) -> None:
        """Register an adapter, never in place; one that is registered already is left as it is.

        Raises `AdapterNotLoaded` with the server's reason.
        """
        async with self._load_lock:
            try:
                await self.request(
                    "POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)}, timeout=300
                )
            except EngineFailed as error:
                if error.status != 400 or name not in await self.adapters():
                    raise AdapterNotLoaded(self.spec.name, error.message, error.status) from error
            self.loaded.add(name)

    async def unload_adapter(self, name: str) -> None:
        """Take an adapter off the server's list; one that is not there is no error. Within `closed_to`."""
        async with self._load_lock:
            try:
                await self.request("POST", "/v1/unload_lora_adapter", {"lora_name": name}, timeout=60)
            except EngineFailed as error:
                if error.status != 404:
                    raise
            self.loaded.discard(name)

    @contextlib.asynccontextmanager
    async def closed_to(self, name: str, patience_s: float, refuse: bool) -> AsyncIterator[None]:
        """Run the block, which may unload adapter `name`, while none of its requests runs or begins.

        vLLM numbers an adapter anew at each load and compares requests by name: one that runs on under the old number
        beside one with the new ends the engine. New requests are refused, or wait for the end of the block. Raises
        `DrainTimeout` when running ones take longer than `patience_s` seconds.
        """
        while name in self._closed:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        gate = None if refuse else asyncio.Event()
        self._closed[name] = gate
        try:
            await self.drained(name, patience_s)
            await asyncio.sleep(SETTLE_S)
            yield
        finally:
            del self._closed[name]
            if gate is not None:
                gate.set()

    async def admitted(self, name: str | None) -> None:
        """Wait while the engine is closed to an adapter; raises `AdapterNotLoaded` (404) when that is for good."""
        while name is not None and name in self._closed:
            gate = self._closed[name]
            if gate is None:
                raise AdapterNotLoaded(self.spec.name, f"{name} is being taken off", 404)
            await gate.wait()

    async def drained(self, name: str, timeout: float) -> None:
        """Wait until no request of this adapter runs; raises `DrainTimeout` after `timeout` seconds."""
        end = time.monotonic() + timeout
        while self.in_flight[name]:
            if time.monotonic() > end:
                raise DrainTimeout(f"{self.in_flight[name]} requests of {name} still run on {self.spec.name}")
            await asyncio.sleep(0.02)

    # ---- requests

    def begin(self, adapter: str | None) -> None:
        """Count one request as under way, for balancing and draining; `end` must follow."""
        self.outstanding += 1
        if adapter:
            self.in_flight[adapter] += 1

    def end(self, adapter: str | None) -> None:
        """Count it as ended."""
        self.outstanding -= 1
        if adapter:
            self.in_flight[adapter] -= 1
            if not self.in_flight[adapter]:
                del self.in_flight[adapter]

    @contextlib.contextmanager
    def lease(self, adapter: str | None) -> Iterator[None]:
        """Count one request as under way within a block."""
        self.begin(adapter)
        try:
            yield
        finally:
            self.end(adapter)

    async def post(self, path: str, body: bytes) -> Connection:
        """POST raw JSON and return the answer as it begins; hand it to `release`, early to abort the generation.

        Raises `EngineFailed` (status 0) when the server can not be reached.
        """
        if self._stream is None:
            raise EngineFailed(self.spec.name, "not started")
        try:
            return await self._stream.post(path, body)
        except StreamBroken as error:
            raise EngineFailed(self.spec.name, str(error)) from error

    def release(self, answer: Connection) -> None:
        """Give an answer back: read to its end its connection is kept, else the generation is aborted."""
        if self._stream is None:
            answer.abort()
        else:
            self._stream.release(answer)

    async def request(self, method: str, path: str, json: Any = None, timeout: float = 60) -> Any:
        """Send one control request and return its parsed JSON (text where it is none).

        Raises `EngineFailed` with the server's message and status, 0 when there was no answer in `timeout`
        seconds.
        """
        if self._session is None:
            raise EngineFailed(self.spec.name, "not started")
        try:
            async with self._session.request(
                method, self.url + path, json=json, timeout=aiohttp.ClientTimeout(total=timeout)
            ) as response:
                data = await response.read()
        except TimeoutError as error:
            raise EngineFailed(self.spec.name, f"no answer to {path} in {timeout:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineFailed(self.spec.name, f"no answer to {path} ({type(error).__name__})") from error
        try:
            value = orjson.loads(data) if data else None
        except orjson.JSONDecodeError:
            value = data.decode(errors="replace")
        if response.status >= 400:
            raise EngineFailed(self.spec.name, error_message(value, response.status), response.status)
        return value

    def log_tail(self, lines: int = 50, start: int = 0) -> str:
        """Return the last lines of the engine's log from byte `start` on, empty when there is none."""
        try:
            with self.log_path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(start if start <= size else 0, size - 400 * lines))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _log_size(self) -> int:
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def status(self) -> dict[str, Any]:
        """Return what `GET /api/status` shows of this engine; a failed one shows the end of its log."""
        return {
            "name": self.spec.name,
            "base": self.spec.base,
            "model": self.spec.model,
            "state": self.state,
            "detail": self.detail,
            "managed": self.spec.url is None,
            "pid": self.pid,
            "restarts": self.restarts,
            "outstanding": self.outstanding,
            "adapters": sorted(self.loaded),
            "log_tail": self.log_tail(20) if self.state == "failed" else None,
        }


def error_message(value: Any, status: int) -> str:
    """Return the message of an error body of vLLM, of FastAPI or of neither."""
    if isinstance(value, dict):
        error = value.get("error", value)
        if isinstance(error, dict):
            return str(error.get("message") or error.get("detail") or f"HTTP {status}")
        return str(error)
    return str(value or f"HTTP {status}")[:500]


def _make_scratch() -> Path:
    """A scratch directory in which torch finds what it compiled at an earlier start. Blocking."""
    scratch = make_scratch()
    with contextlib.suppress(OSError, KeyError):  # no name for this user: it compiles again
        name = f"torchinductor_{getpass.getuser()}"
        shared = Path(tempfile.gettempdir(), name)
        shared.mkdir(exist_ok=True)
        (scratch / name).symlink_to(shared)
    return scratch


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
