"""Publish an adapter: check, place, load everywhere, warm, measure. In that order, or not at all.

What is published is immutable and named by its content, so publishing the same adapter again changes nothing and a
name never means two things. Knows no store: the caller records what comes back.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve.adapters.effect import references
from serve.adapters.files import FILES, WEIGHTS, needs_staging, stage
from serve.adapters.multiple import choose_multiple
from serve.adapters.parity import (
    FIXED_TOLERANCE,
    NOT_FINITE,
    Parity,
    Tolerance,
    compare,
    judge,
    measure,
)
from serve.adapters.removal import take_off
from serve.adapters.scaled_copy import compare_at_multiple
from serve.adapters.token_cost import token_cost
from serve.adapters.validation import AdapterFacts, check
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.errors import AdapterNotLoaded, AdapterRefused, EngineFailed, ParityFailed
from store.values import Probe


@dataclass(frozen=True, slots=True)
class Published:
    """A published adapter: its content `hash`, which is its `name` on every engine, and its directory.

    `parity` is the worst over the engines, None when there was no probe. `timings` are the seconds that
    each step took: check, place, load, warm, parity.
    """

    hash: str
    name: str
    path: Path
    facts: AdapterFacts
    parity: Parity | None
    timings: dict[str, float]


async def publish(
    source: Path,
    adapters_dir: Path,
    pool: EnginePool,
    base: str,
    probe: Probe | None = None,
    tolerance: Tolerance = "auto",
    max_nf4_drift: float | None = None,
) -> Published:
    """Make the PEFT LoRA directory `source` servable on every ready engine of `base`.

    An engine that starts later finds the adapter by its name. `tolerance` bounds the mean absolute difference of the
    probe's log-probabilities ("auto": by what the base itself differs, see `parity.judge`), `max_nf4_drift` that between
    the served base and the NF4 base that a QLoRA adapter was trained on (None: any). Raises `EngineUnavailable` before
    anything is done when no engine serves, `AdapterRefused` for a directory that breaks a rule or that an engine refuses,
    `ParityFailed` when the numbers differ by more; a refused adapter is taken off the engines and leaves no file behind.
    """
    pool.pick(base)
    if await asyncio.to_thread(needs_staging, source):
        with tempfile.TemporaryDirectory() as scratch:
            staged = await asyncio.to_thread(stage, source, Path(scratch) / "adapter")
            return await publish(staged, adapters_dir, pool, base, probe, tolerance, max_nf4_drift)
    engines = [engine for engine in pool.engines(base) if engine.state == "ready"]
    clock = _Stopwatch()
    facts = await asyncio.to_thread(_check, source, engines)
    if probe is not None:
        _check_probe(probe, facts.is_zero)
    clock.lap("check")
    async with pool.adapter_lock(facts.hash):
        path, fresh = await asyncio.to_thread(_place, source, adapters_dir, facts)
        clock.lap("place")
        try:
            await asyncio.gather(*(engine.load_adapter(facts.hash, path) for engine in engines))
            clock.lap("load")
            await asyncio.gather(*(_warm(engine, facts.hash) for engine in engines))
            clock.lap("warm")
            parity = await _parity(engines, path, facts, probe, tolerance, max_nf4_drift)
            clock.lap("parity")
        except BaseException as error:
            # A cancelled publishing cleans up too, so it must not be cut short a second time.
            if fresh:
                await asyncio.shield(take_off(facts.hash, engines, 60, path))
            if isinstance(error, AdapterNotLoaded):
                raise AdapterRefused(f"{error.engine} does not load it: {error.message}") from error
            raise
    return Published(facts.hash, facts.hash, path, facts, parity, clock.laps)


async def validate_adapter(source: Path, pool: EnginePool, base: str) -> None:
    """Check a directory as `publish` does, and leave it at that. Raises `AdapterRefused`, `EngineUnavailable`."""
    pool.pick(base)
    await asyncio.to_thread(_check, source, [e for e in pool.engines(base) if e.state == "ready"])


async def withdraw(
    name: str, pool: EnginePool, base: str, adapters_dir: Path | None = None, drain_timeout_s: float = 600.0
) -> None:
    """Drain an adapter that no route leads to any more, then unload it; `adapters_dir` deletes its files too.

    The files go last: an engine that finds a registered adapter's directory gone ends. Raises `DrainTimeout`,
    with everything still in place, when requests run longer than `drain_timeout_s` seconds.
    """
    async with pool.adapter_lock(name):
        engines = [engine for engine in pool.engines(base) if engine.state == "ready"]
        await take_off(name, engines, drain_timeout_s, adapters_dir / name if adapters_dir else None)


def _check(source: Path, engines: Sequence[Engine]) -> AdapterFacts:
    rank = min(engine.spec.max_lora_rank for engine in engines)
    model_dir = next((e.spec.model_dir for e in engines if e.spec.model_dir), None)
    config: dict[str, Any] = {}
    if model_dir is not None and (model_dir / "config.json").is_file():
        config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    return check(source, config, rank, model_dir)


def _place(source: Path, adapters_dir: Path, facts: AdapterFacts) -> tuple[Path, bool]:
    """Copy the adapter to its final name by one rename; returns the path and whether it is new."""
    final = adapters_dir / facts.hash
    if (final / WEIGHTS).is_file():
        return final.absolute(), False
    adapters_dir.mkdir(parents=True, exist_ok=True)
    scratch = adapters_dir / f".{facts.hash}.{uuid.uuid4().hex[:8]}.part"
    scratch.mkdir()
    try:
        for name in FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, scratch / name)
                with (scratch / name).open("rb") as file:
                    os.fsync(file.fileno())
        try:
            scratch.rename(final)
        except OSError:
            if not (final / WEIGHTS).is_file():
                raise
            shutil.rmtree(scratch)  # somebody published the same adapter meanwhile
            return final.absolute(), False
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(error, OSError):
            raise AdapterRefused(
                f"the adapter cannot be placed in {adapters_dir}: {error.strerror}"
            ) from error
        raise
    return final.absolute(), True


async def _warm(engine: Engine, name: str) -> None:
    """Generate a token, so that the first person does not wait for what happens once."""
    body = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0, "logprobs": 1}
    try:
        with engine.in_flight.lease(name):
            await engine.request("POST", "/v1/completions", {**body, "ignore_eos": True}, timeout=None)
    except EngineFailed as error:
        raise AdapterNotLoaded(engine.spec.name, error.message, error.status) from error


async def _parity(
    engines: Sequence[Engine],
    path: Path,
    facts: AdapterFacts,
    probe: Probe | None,
    tolerance: Tolerance,
    max_nf4_drift: float | None,
) -> Parity | None:
    if probe is None:
        return None
    found = await asyncio.gather(*(_compare(engine, path, facts, probe, tolerance) for engine in engines))
    worst = max(found, key=lambda parity: (not parity.ok, parity.mean_abs))
    if not worst.ok:
        raise ParityFailed(
            worst.why or f"served and trained log-probabilities differ by {worst.mean_abs:.4g}"
        )
    if max_nf4_drift is not None and (worst.nf4_drift or 0.0) > max_nf4_drift:
        raise ParityFailed(
            f"on the served base the adapter's log-probabilities of the probe differ by {worst.nf4_drift:.4g} on "
            f"average from those on the NF4 base that it was trained on; accepted: up to {max_nf4_drift:g} "
            "(training.max_nf4_drift)"
        )
    return replace(worst, cost=await token_cost(engines[0], facts.hash))


async def _compare(
    engine: Engine, path: Path, facts: AdapterFacts, probe: Probe, tolerance: Tolerance
) -> Parity:
    try:
        served = await measure(engine, facts.hash, probe)
    except EngineFailed as error:
        if NOT_FINITE in error.message:
            raise ParityFailed(f"served, the adapter gives {NOT_FINITE}") from error
        raise
    if tolerance != "auto":
        return compare(served, probe, tolerance)
    if not references(probe):
        return compare(served, probe, FIXED_TOLERANCE)
    served_base = await measure(engine, engine.spec.base, probe)
    parity = judge(served, served_base, probe, facts.is_zero)
    multiple = choose_multiple(parity, served_base, probe)
    return parity if multiple is None else await compare_at_multiple(engine, path, probe, parity, multiple)


def _check_probe(probe: Probe, is_zero: bool) -> None:
    """Refuse an adapter that overflows, whose NaN would stay in an engine's cache for all, or that changes nothing."""
    if not all(math.isfinite(value) for series in probe.logprobs.values() for value in series):
        raise ParityFailed(f"PEFT computes {NOT_FINITE} for the adapter")
    if not is_zero and any(list(pair.base) == list(pair.adapter) for pair in references(probe)):
        raise ParityFailed(
            "the adapter changes nothing: with PEFT, its log-probabilities are the base's on every token of the probe, "
            "though its weights are not zero"
        )


class _Stopwatch:
    """Seconds by step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._at = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the step `name`."""
        now = time.perf_counter()
        self.laps[name], self._at = now - self._at, now
