"""One engine: a vLLM server, started, watched and restarted here, or external.

Knows the life of its process; knows no deployment, release or store. An engine is ready when a probe generated a token
with a finite log-probability: vLLM answers /health with 200 even while a damaged adapter silences every model. Any exit
that was not asked for is a crash, whatever the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from common.net import free_port
from serve.engine.cards.placement import Cards
from serve.engine.failure_reasons import cause
from serve.engine.in_flight import InFlight
from serve.engine.liveness import Sign, Stall
from serve.engine.process import GuardedProcess, ProcessOptions
from serve.engine.processor_use import ProcessorUse
from serve.engine.scratch import make_engine_scratch
from serve.engine.spec import EngineSpec, command, environment
from serve.engine.start_stages import StartStages
from serve.engine.vllm_api import VllmApi
from serve.engine.vllm_preload import SWITCH as PRELOAD_SWITCH
from serve.errors import EngineFailed, ProcessFailed

__all__ = ["Engine", "EngineSpec"]

log = logging.getLogger(__name__)
State = Literal["stopped", "starting", "ready", "sleeping", "failed"]
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
BEHIND_GATEWAY = 10  # niceness of an engine that computes on the cores which the gateway answers from
BACKOFF_RESET_S = 300.0  # an engine that served this long restarts after the shortest back-off
ANNOUNCE_S = 120.0
METRICS_S = 5.0
HEALTH_S = 1.0
PRELOAD_S = 300.0  # imports take 50 s from a cold disk; a process forked wrongly would wait for ever
UNAVAILABLE = (429, 502, 503, 504)  # what a proxy before an external engine says of one that is busy
PROBES_SKIPPED = 6  # while answers move, one probe in so many still looks for an engine that answers nonsense


class Engine(VllmApi):
    """One vLLM server. Belongs to the event loop in which `start` was awaited.

    `state` is stopped, starting, ready, sleeping (`card_room`) or failed (waiting for the next start); `detail` says
    more in words. `in_flight` counts the requests under way, `boots` the starts, `restarts` those after the first.
    `last_sign_of_life` is when an answer last moved, set by whoever passes answers on.
    """

    def __init__(self, spec: EngineSpec, data_dir: Path, cards: Cards | None = None) -> None:
        super().__init__(spec.name, spec.base, spec.url or "", spec.api_key or secrets.token_urlsafe(32))
        self.spec = spec
        self.cards = cards or Cards()
        self.state: State = "stopped"
        self.detail = "not started"
        self.boots = 0
        self.in_flight = InFlight(spec.name)
        self.last_sign_of_life = 0.0
        self.starting_since = 0.0
        self.on_ready: list[Callable[[Engine], Awaitable[None]]] = []
        # returns the directory of a model that is not on this disk, after its download
        self.fetch: Callable[[], Awaitable[Path]] | None = None
        self.log_path = data_dir / "logs" / f"engine-{spec.name}.log"
        self.adapters_dir = data_dir / "adapters"
        self._starts_path = data_dir / "cache" / "engine-starts.json"
        self._stages: StartStages | None = None
        self.cache_limit: int | None = None  # tokens of the next start's KV cache at the most
        self._asked_restart = ""  # why, where somebody asked for one
        self._preloads = True  # not after a start on a card that failed: it might be the reason
        self._log_from = 0  # where this boot's output begins
        self._state_dir = data_dir / "processes"
        self._process: GuardedProcess | None = None
        self._use: ProcessorUse | None = None
        self._progress: tuple[str, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._changed = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id of the vLLM server, None when it is not running here."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def restarts(self) -> int:
        """How often the server was started again."""
        return max(0, self.boots - 1)

    # ---- life

    async def start(self) -> None:
        """Begin starting and supervising; returns at once. See `wait_ready`."""
        if self._task is None:
            self._stopping = False
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
            await self._process.stop(self.spec.drain_s + 5 if self.in_flight.outstanding else 5)
        self.cards.release(self.spec.name)
        await self.disconnect()
        self._set("stopped", "stopped")

    async def restart(self, why: str) -> None:
        """End the server after its answers under way; the supervisor starts it again at once."""
        if self._process is None or self._stopping:
            return
        self._asked_restart = why
        self._set("starting", why)
        await self._process.stop(self.spec.drain_s + 5 if self.in_flight.outstanding else 5)

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

    async def is_healthy(self) -> bool:
        """Return whether the server says that its core is alive, for an answer that failed."""
        if self.state != "ready":
            return False
        try:
            await self.request("GET", "/health", timeout=HEALTH_S)
        except EngineFailed:
            return False
        return True

    async def read_queue(self) -> None:
        """Ask how many requests wait for a place in the batch; `queue` is None where the engine does not say."""
        self.queue = None
        if self.state == "ready":
            await super().read_queue()

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
            self._asked_restart, before = "", self._process
            try:
                await self._fetch()
                await self._launch()
                self.connect()
                await self._wait_until_serving()
                await self._announce()
                await self._record_start()
                ready_since = time.monotonic()
                self.cards.settle(self.spec.name)
                self._set("ready", "serving")
                await self._watch()
            except (EngineFailed, ProcessFailed) as error:
                why = error.message if isinstance(error, EngineFailed) else str(error)
            if time.monotonic() - ready_since > BACKOFF_RESET_S:
                failures = 0
            if ready_since == math.inf and self._process is not before and not self.spec.on_cpu:
                self._preloads = False
            if ready_since == math.inf:
                self.cache_limit = None  # with its whole cache it has served before
            if self._asked_restart:
                wait = 0.0
            else:
                wait = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
                failures += 1
                self._set("failed", f"{why}; next start in {wait:.0f} s")
                log.error("engine %s: %s", self.spec.name, why)
            await self.disconnect()
            if self._process is not None:
                await self._process.stop(0 if ready_since < math.inf else 2)
            self.cards.release(self.spec.name)
            await asyncio.sleep(wait)

    async def _fetch(self) -> None:
        """Have a model that is not on this disk downloaded; raises `EngineFailed`, after which it is tried again."""
        if self.fetch is None:
            return
        self._set("starting", f"downloading {self.spec.model}")
        self.spec = replace(self.spec, model=str(await self.fetch()))
        self.fetch = None
        self.starting_since = time.monotonic()

    async def _launch(self) -> None:
        if self.spec.url is not None:
            self.url = self.spec.url.rstrip("/")
            self._set("starting", f"waiting for {self.url}")
            return
        spec, device = await self._place()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._set("starting", f"loading {self.spec.model}")
        await asyncio.to_thread(self.adapters_dir.mkdir, parents=True, exist_ok=True)
        self._log_from = self._log_size()
        self._stages = StartStages(self._starts_path, self.spec.name, device)
        scratch = await asyncio.to_thread(make_engine_scratch)
        self._process = await GuardedProcess.start(
            command(spec, port),
            ProcessOptions(
                log=self.log_path,
                env=self._environment(spec, scratch),
                scratch=scratch,
                state_dir=self._state_dir,
                orphan_grace_s=3.0,
                nice=niceness(self.spec),
            ),
        )
        # A GPU's driver lets a thread spin for as long as a kernel hangs, so there computing proves nothing.
        self._use = ProcessorUse(self._process.pid) if self.spec.on_cpu else None

    async def _place(self) -> tuple[EngineSpec, str]:
        """Return the specification with its part of a card, and the device's name. Raises `EngineFailed`."""
        if self.spec.on_cpu:
            return self.spec, "cpu"
        spec = replace(self.spec, can_sleep=self.cards.can_sleep)
        if self.cache_limit is not None:
            limit = min(self.cache_limit, spec.kv_cache_tokens)
            spec = replace(spec, gpu_memory=None, kv_cache_tokens=limit)
        placed = await self.cards.place(spec)
        if placed.need is not None:
            log.info("engine %s takes %s of %s", self.spec.name, placed.need.explain(), placed.device)
        args, env = placed.arguments | dict(spec.args), placed.environment | dict(spec.env)
        return replace(spec, args=args, env=env), placed.device

    def _environment(self, spec: EngineSpec, scratch: Path) -> dict[str, str]:
        found = environment(spec, self._key, self.adapters_dir, scratch)
        return found if self._preloads else {PRELOAD_SWITCH: "0", **found}

    async def _wait_until_serving(self) -> None:
        """Wait until the server answers a probe; one that still computes at the timeout gets `busy_timeout_s` more."""
        end = time.monotonic() + self.spec.start_timeout_s
        while True:
            self._raise_if_ended()
            late_s = time.monotonic() - end
            if late_s > self.spec.busy_timeout_s or (late_s > 0 and not await self._computes(2.0)):
                raise EngineFailed(self.spec.name, self._why("did not serve in time", None))
            try:
                await self.request("GET", "/health", timeout=5)
                break
            except EngineFailed:
                self.detail = f"loading {self.spec.model}: {self._stage()}"
                self._raise_if_preload_hangs()
                await asyncio.sleep(0.2)
        await self._probe_while_alive(self.spec.start_timeout_s)

    def _raise_if_preload_hangs(self) -> None:
        """Raise `EngineFailed` where no process came of shared imports on a card; the next start does without them.

        Its log decides, so a start that logs nothing costs one start more at worst.
        """
        waited = time.monotonic() - self.starting_since
        begun = self._stages is None or self._stages.has_begun_work
        if self._preloads and not self.spec.on_cpu and not begun and waited > PRELOAD_S:
            raise EngineFailed(self.spec.name, f"it did not begin to load its model in {PRELOAD_S:.0f} s")

    def _stage(self) -> str:
        if self._stages is None:
            return f"{time.monotonic() - self.starting_since:.0f} s"
        self._stages.read(self.log_tail(200, self._log_from))
        return self._stages.say()

    async def _record_start(self) -> None:
        if self._stages is not None:
            self._stages.read(self.log_tail(200, self._log_from))
            with contextlib.suppress(OSError):  # a full disk costs a hint, not an engine
                await asyncio.to_thread(self._stages.finish)

    async def _announce(self) -> None:
        for callback in self.on_ready:
            try:
                await asyncio.wait_for(callback(self), ANNOUNCE_S)
            except Exception:
                log.exception("engine %s: loading its adapters failed; they load on demand", self.spec.name)

    # ---- watching

    async def _watch(self) -> None:
        """Return never: raises `EngineFailed` when the server ended, is dead or answers nonsense."""
        skipped = 0
        while True:
            since = time.monotonic()
            await self._wait_for_exit(self.spec.probe_interval_s)
            self._raise_if_ended()
            if self.state == "sleeping":
                continue
            if self.last_sign_of_life > since and skipped < PROBES_SKIPPED:
                skipped += 1
                continue
            skipped = 0
            await self._probe_while_alive(self.spec.probe_timeout_s)

    async def _probe_while_alive(self, silence_s: float) -> None:
        """Probe for as long as the engine shows signs of life; raises `EngineFailed` after `silence_s` without one."""
        stall = Stall(silence_s, self.spec.busy_timeout_s)
        step_s = max(0.2, min(self.spec.probe_interval_s, silence_s / 3))
        probing = asyncio.create_task(self.probe(None))
        try:
            while True:
                began = time.monotonic()
                await asyncio.wait({probing}, timeout=step_s)
                self._raise_if_ended()
                if self.state == "sleeping":
                    return
                if probing.done():
                    try:
                        return probing.result()
                    except EngineFailed as error:
                        if error.status and error.status not in UNAVAILABLE:
                            raise
                        await self._wait_for_exit(step_s)
                        self._raise_if_ended()
                        probing = asyncio.create_task(self.probe(None))
                sign = await self._sign_since(began)
                # Time in which this event loop stood still says nothing of the engine.
                stall.add(min(time.monotonic() - began, 2 * step_s + METRICS_S), sign)
                if why := stall.reason():
                    raise EngineFailed(self.spec.name, why)
        finally:
            probing.cancel()

    async def _sign_since(self, began: float) -> Sign:
        computes = await self._computes()  # asked each time, since a sample compares with the one before
        progress = await self.progress(METRICS_S)
        moved = bool(progress and self._progress and progress != self._progress)
        self._progress = progress or self._progress
        if moved or self.last_sign_of_life > began:
            return Sign.PROGRESS
        return Sign.COMPUTING if computes else Sign.NOTHING

    async def _computes(self, window_s: float = 0) -> bool:
        """Tell whether the server computed since the last call, or within a window of `window_s` seconds from now."""
        if self._use is None:
            return False
        if window_s:
            await asyncio.to_thread(self._use.sample)
            await asyncio.sleep(window_s)
        return await asyncio.to_thread(self._use.sample)

    async def _wait_for_exit(self, timeout: float) -> None:
        if self._process is None:
            await asyncio.sleep(timeout)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), timeout)

    def _raise_if_ended(self) -> None:
        process = self._process
        if process is not None and self.spec.url is None and process.returncode is not None:
            raise EngineFailed(self.spec.name, self._why("ended", process.returncode))

    def _why(self, what: str, status: int | None) -> str:
        return f"{what}: {cause(self.log_tail(200, self._log_from), status)}"

    # ---- what it says

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


def niceness(spec: EngineSpec) -> int:
    """Return the niceness of an engine: the setting's, else behind the gateway where both compute on the same cores."""
    if spec.nice is not None:
        return spec.nice
    return BEHIND_GATEWAY if spec.on_cpu else 0
