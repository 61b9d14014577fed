"""A real engine and the gateway in front of it, measured in turns with the same requests.

A wave is one greedy answer of fixed length a stream, so that both do the same steps; what is compared is two waves that
follow each other. The engine runs as the platform runs it (`serve.engine.engine`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.bench_models import embedded
from bench.serving.servers import ROOT, cpu, free_port, running
from serve.engine.engine import Engine, EngineSpec

KEY = "bench"


@dataclass(frozen=True, slots=True)
class Pair:
    """The engine and the gateway in front of it: URLs, model names and processes."""

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
    """Start the gateway in front of an engine.

    The engine serves `model` (None: SmolLM2) with vLLM arguments `args`, or it runs at `url` already and serves `bench`
    with the key `bench`.
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
            argv = [
                sys.executable,
                "-m",
                "bench.serving.gateway_app",
                "--engine",
                engine.url,
                "--engine-key",
                KEY,
            ]
            argv += ["--base", "bench", "--port", str(port)]
            with running(argv, f"{here}/v1/models", KEY) as process:
                own = psutil.Process(engine.pid) if engine.pid else None
                yield Pair(engine.url, here, model, own, process)
        finally:
            await engine.stop()


def turns(pair: Pair, streams: int, tokens: int, waves: int) -> dict[str, Any]:
    """Measure both in alternate waves of `streams` answers of `tokens` tokens (`bench.serving.waves`), `waves` of each.

    Returns the medians over the waves: tokens a second and milliseconds to the first token of either, `share` (of the
    direct tokens a second, gateway over direct of two waves in a row) and `added_ms`, both with the interval in which
    their median lies at 95% (bootstrap), and `cpu_share`, the gateway's part of the processor time that an answer takes
    (None where the engine is not of this process).
    """
    before = cpu(pair.gateway_process), cpu(pair.engine_process) if pair.engine_process else 0.0
    asked = [word for _, url, served in pair.sides() for word in (url, served)]
    argv = [
        sys.executable,
        "-m",
        "bench.serving.waves",
        *asked,
        "--streams",
        str(streams),
        "--waves",
        str(waves),
    ]
    argv += ["--key", KEY, "--max-tokens", str(tokens)]
    out = subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    rows = dict(zip(("direct", "gateway"), json.loads(out.stdout), strict=True))
    ours = cpu(pair.gateway_process) - before[0]
    # half of the answers came without the gateway
    theirs = (cpu(pair.engine_process) - before[1]) / 2 if pair.engine_process else None
    middle = statistics.median
    shares = _paired(rows, "seconds", lambda direct, through: direct / through)
    added = _paired(rows, "first_ms", lambda direct, through: through - direct)
    return {
        "streams": streams,
        "waves": waves,
        "tokens_per_s": {
            name: round(streams * tokens / middle(seen["seconds"]), 1) for name, seen in rows.items()
        },
        "first_token_ms": {name: round(middle(seen["first_ms"]), 2) for name, seen in rows.items()},
        "share": round(middle(shares), 4),
        "share_95": _interval(shares),
        "added_ms": round(middle(added), 2),
        "added_95": _interval(added),
        "cpu_share": round(ours / max(ours + theirs, 1e-9), 5) if theirs is not None else None,
    }


def _paired(
    rows: Mapping[str, Mapping[str, Sequence[float]]], what: str, compare: Callable[[float, float], float]
) -> list[float]:
    return [compare(*both) for both in zip(rows["direct"][what], rows["gateway"][what], strict=True)]


def _interval(seen: Sequence[float]) -> tuple[float, float]:
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(seen, k=len(seen))) for _ in range(2000))
    return round(medians[49], 4), round(medians[1949], 4)
