"""A real engine and the gateway before it, asked in turns with the same work.

A turn is a fixed number of greedy answers of fixed length, so that both do the same steps; a round is one turn of each,
and what is compared is the two turns of a round. The engine runs as the platform runs it (`serve.engine`).
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.bench_models import embedded
from bench.servers import cpu, free_port, load, running
from serve.engine import Engine, EngineSpec

KEY = "bench"


@dataclass(frozen=True, slots=True)
class Pair:
    """The engine and the gateway before it: where they answer, by which model name, and their processes."""

    engine: str
    gateway: str
    model: Path
    engine_process: psutil.Process | None
    gateway_process: psutil.Process

    def sides(self) -> tuple[tuple[str, str, str], ...]:
        """Return name, URL and public model of both."""
        return ("direct", self.engine, "bench"), ("gateway", self.gateway, "assistant")


@contextlib.asynccontextmanager
async def engine_and_gateway(
    model: Path | None = None, args: Mapping[str, Any] | None = None, url: str | None = None
) -> AsyncIterator[Pair]:
    """Put the gateway before an engine: one that serves `model` (None: SmolLM2) with vLLM arguments `args`, or the one
    that runs at `url` and serves `bench` to who shows the key `bench`.
    """
    model = model or await asyncio.to_thread(embedded)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = {"max-model-len": 2048, **(args or {})}
        engine = Engine(
            EngineSpec("bench", "bench", str(model), url=url, api_key=KEY, args=arguments), Path(scratch)
        )
        await engine.start()
        try:
            await engine.wait_ready(900)
            port = free_port()
            here = f"http://127.0.0.1:{port}"
            argv = [sys.executable, "-m", "bench.gateway_app", "--engine", engine.url, "--engine-key", KEY]
            argv += ["--base", "bench", "--port", str(port)]
            with running(argv, f"{here}/v1/models", KEY) as process:
                own = psutil.Process(engine.pid) if engine.pid else None
                yield Pair(engine.url, here, model, own, process)
        finally:
            await engine.stop()


def turns(pair: Pair, streams: int, requests: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Load both in turns, `requests` answers of `tokens` tokens over `streams` streams each.

    Returns the medians over the rounds: tokens a second and milliseconds to the first token of either, `share` (of the
    direct tokens a second, gateway over direct within a round, with its quartiles), `added_ms`, and `cpu_share`, the
    gateway's part of the processor time (None where the engine is not of this process).
    """
    engine, ours, theirs = pair.engine_process, 0.0, 0.0
    rows: dict[str, list[Any]] = {"direct": [], "gateway": []}
    for number in range(rounds):
        # whoever goes second meets a warmer machine: they take turns at that, too
        for name, url, served in pair.sides() if number % 2 else reversed(pair.sides()):
            before = cpu(pair.gateway_process), cpu(engine) if engine else 0.0
            seen = load(url, served, streams, key=KEY, tokens=tokens, requests=requests, stream=True)
            if seen["failed"] or seen["done"] != requests:
                raise SystemExit(f"{name}: {seen['done']} of {requests} answers, {seen['failed']} failed")
            rows[name].append(seen)
            if name == "gateway":
                ours += cpu(pair.gateway_process) - before[0]
                theirs += cpu(engine) - before[1] if engine else 0.0
    middle = statistics.median
    both = list(zip(rows["direct"], rows["gateway"], strict=True))
    shares = [direct["seconds"] / through["seconds"] for direct, through in both]
    return {
        "streams": streams,
        "tokens_per_s": {
            name: round(middle(requests * tokens / row["seconds"] for row in seen), 1)
            for name, seen in rows.items()
        },
        "first_token_ms": {
            name: round(middle(row["p50_ms"] for row in seen), 2) for name, seen in rows.items()
        },
        "share": round(middle(shares), 4),
        "share_quartiles": [round(q, 3) for q in statistics.quantiles(shares, n=4)] if rounds > 1 else shares,
        "added_ms": round(middle(through["p50_ms"] - direct["p50_ms"] for direct, through in both), 2),
        "cpu_share": round(ours / max(ours + theirs, 1e-9), 5) if engine else None,
    }
