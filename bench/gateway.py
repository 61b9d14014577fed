"""The gateway against the engine alone, and against LiteLLM proxy.

    python -m bench.gateway [--quick] [--no-engine | --only-engine] [--no-litellm] [--seconds 5]
    python -m bench.gateway --clients
    python -m bench.gateway --only-engine [--model DIR] [--engine-args '{"load-format": "dummy"}'] [--tokens 128]

Over a stub engine (200 tokens a second a stream, 16-token answers): requests a second plain at 32 and streamed at 128,
latency added to one request, CPU time, and 1,000 streams held open. Over real vLLM (SmolLM2 where no other model is
given): tokens a second and time to first token through the gateway and directly, in turns. LiteLLM runs from its own
environment:

    python -m venv .venv-litellm && .venv-litellm/bin/pip install 'litellm[proxy]==1.108.7'

One worker each; the load generator and the stub share the machine with what is measured, the same for all. Ends with
one line of JSON whose figure is the worst result as a multiple of its budget.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from bench.serving.engine_turns import Pair, engine_and_gateway, turns
from bench.serving.http_clients import CLIENTS
from bench.serving.servers import ROOT, cpu, free_port, load, running
from bench.versions import versions

LITELLM = ROOT / ".venv-litellm" / "bin" / "litellm"
PLAIN_BUDGET, STREAM_BUDGET, HELD_BUDGET, THROUGHPUT_BUDGET, FIRST_MS_BUDGET = 15.0, 10.0, 1000, 0.98, 3.0


def over_stub(
    name: str, process: psutil.Process | None, url: str, key: str, seconds: float
) -> dict[str, Any]:
    """Measure one server over the stub."""
    model = "stub" if name == "stub" else "assistant"
    load(url, model, 8, key=key, seconds=1)  # warm
    row: dict[str, Any] = {"one": load(url, model, 1, key=key, seconds=seconds)}
    before = cpu(process) if process else 0.0
    row["plain"] = load(url, model, 32, key=key, seconds=seconds)
    done = max(row["plain"]["requests_per_s"], 0.1) * (seconds + 0.5)
    row["cpu_s_per_1000"] = round((cpu(process) - before) / done * 1000, 3) if process else None
    row["stream_one"] = load(url, model, 1, key=key, seconds=seconds, stream=True)
    row["stream"] = load(url, model, 128, key=key, seconds=3 * seconds, stream=True)
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
    with running(
        [sys.executable, "-m", "bench.serving.stub_engine", "--port", str(stub_port)], f"{stub}/health"
    ):
        for client in ("ours", *CLIENTS):
            for loop in ("uvloop", "asyncio"):
                port = free_port()
                argv = [
                    sys.executable,
                    "-m",
                    "bench.serving.gateway_app",
                    "--engine",
                    stub,
                    "--port",
                    str(port),
                ]
                here = f"http://127.0.0.1:{port}"
                with running(
                    [*argv, "--client", client, "--loop", loop], f"{here}/v1/models", "bench"
                ) as process:
                    over_stub(f"{client}, {loop}", process, here, "bench", seconds)


def hold_open() -> dict[str, Any]:
    """Hold 1,000 streams of four seconds (two tokens per second each) open at once, twice in a row."""
    stub_port, port = free_port(), free_port()
    stub, here = f"http://127.0.0.1:{stub_port}", f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "bench.serving.stub_engine", "--port", str(stub_port), "--rate", "2"]
    with running(argv, f"{stub}/health"):
        argv = [sys.executable, "-m", "bench.serving.gateway_app", "--engine", stub, "--port", str(port)]
        with running(argv, f"{here}/v1/models", "bench"):
            seen = load(here, "assistant", 1000, key="bench", tokens=8, seconds=16, stream=True)
    print(f"trimtab  1,000 streams held open: {seen}", flush=True)
    held = 1000 if seen["failed"] == 0 and seen["done"] >= 1000 else 0
    return _part("streams held open", held, HELD_BUDGET, "streams")


def compare_proxies(seconds: float, with_litellm: bool) -> list[dict[str, Any]]:
    """Run the stub, and the gateway and LiteLLM in front of it; return the parts of the result."""
    stub_port, port, other = free_port(), free_port(), free_port()
    stub, here = f"http://127.0.0.1:{stub_port}", f"http://127.0.0.1:{port}"
    parts = []
    with running(
        [sys.executable, "-m", "bench.serving.stub_engine", "--port", str(stub_port)], f"{stub}/health"
    ):
        over_stub("stub", None, stub, "none", seconds)
        argv = [sys.executable, "-m", "bench.serving.gateway_app", "--engine", stub, "--port", str(port)]
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


async def against_engine(
    pair: contextlib.AbstractAsyncContextManager[Pair], streams: list[int], tokens: int | None, waves: int
) -> list[dict[str, Any]]:
    """Measure a real engine directly and through the gateway, in turns; return the parts of the result."""
    parts = []
    async with pair as both:
        for count in streams:
            # on two cores a step of 64 streams takes three quarters of a second
            length = tokens or max(4, 32 // max(1, count // 8))
            seen = await asyncio.to_thread(turns, both, count, length, waves)
            print(json.dumps(seen), flush=True)
            what = f"throughput of the engine asked directly, {count} streams"
            parts.append(_part(what, seen["share"], THROUGHPUT_BUDGET, "x"))
            what = f"added time to first token, {count} streams"
            parts.append(_part(what, seen["added_ms"], FIRST_MS_BUDGET, "ms", least=False))
    return parts


def _part(name: str, figure: float, budget: float, unit: str, least: bool = True) -> dict[str, Any]:
    ok = figure >= budget if least else figure <= budget
    print(
        f"{'ok  ' if ok else 'MISS'} {name}: {figure} {unit} (budget {'>=' if least else '<='} {budget})",
        flush=True,
    )
    worth = figure / budget if least else budget / max(figure, 0.1)
    return {"name": name, "figure": figure, "unit": unit, "budget": budget, "ok": ok, "worth": worth}


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--no-engine", action="store_true", help="leave out the comparison with vLLM")
    parser.add_argument("--only-engine", action="store_true", help="only the comparison with vLLM")
    parser.add_argument("--no-litellm", action="store_true", help="leave out LiteLLM")
    parser.add_argument("--clients", action="store_true", help="only compare HTTP clients and event loops")
    parser.add_argument("--waves", type=int, help="waves of engine and gateway each")
    parser.add_argument("--model", type=Path, help="directory that the engine serves; none is SmolLM2")
    parser.add_argument(
        "--engine", help="URL of an engine that serves `bench` to the key `bench`; none starts one"
    )
    parser.add_argument("--engine-args", default="{}", help="vLLM arguments of the engine, a JSON object")
    parser.add_argument("--tokens", type=int, help="length of an answer of the engine; none is by streams")
    parser.add_argument(
        "--streams", type=int, nargs="+", help="streams before the engine; none is 1, 16 and 64"
    )
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
        streams = args.streams or ([1, 16] if args.quick else [1, 16, 64])
        pair = engine_and_gateway(args.model, json.loads(args.engine_args), args.engine)
        waves = args.waves or (6 if args.quick else 40)
        parts += asyncio.run(against_engine(pair, streams, args.tokens, waves))
    worst = min(parts, key=lambda p: p["worth"])
    found_versions = versions("uvicorn", "starlette", "uvloop", "httptools", "vllm")
    if not args.no_litellm:
        found = LITELLM.parent.parent.glob("lib/*/site-packages/litellm-*.dist-info")
        found_versions["litellm"] = next(
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
                "versions": found_versions,
            }
        )
    )


if __name__ == "__main__":
    main()
