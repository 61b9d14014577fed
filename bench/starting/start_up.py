"""Start-up of the platform and its speed: `python -m bench.starting.start_up [--quick] [--data DIR]`.

Starts `trimtab up` on a data directory whose model is prepared, and prints seconds from process start until the API and the
UI answer (budget of the UI 10 s) and until the first served token, then tokens a second through the gateway and from the
engine directly, at 1 and 8 streams, interleaved, medians of three rounds (`--quick`: one). On an NVIDIA card it then starts
a second time in the same directory; the budgets to the first token are 120 s with empty caches and 60 s the second time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.serving.servers import free_port
from bench.versions import versions
from common.gpu_cards import has_cuda

UI_BUDGET_S = 10.0
COLD_BUDGET_S, WARM_BUDGET_S = 120.0, 60.0
BASE = "smollm2-135m-instruct"
PROMPT = [{"role": "user", "content": "Tell me about the sea, at length."}]


def wait(url: str, seconds: float) -> None:
    """Wait until `url` answers 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{url} did not answer within {seconds} s")


def engine_of(platform: int) -> tuple[str, str]:
    """Return URL and key of a platform's engine, from its process's environment."""
    for process in psutil.Process(platform).children(recursive=True):
        argv = process.cmdline()
        if "serve.engine.vllm_main" in argv and "--port" in argv:
            return f"http://127.0.0.1:{argv[argv.index('--port') + 1]}", process.environ()["VLLM_API_KEY"]
    raise SystemExit("no engine found below the platform")


def tokens_per_second(url: str, key: str, model: str, streams: int, tokens: int) -> float:
    """Return tokens per second of `streams` parallel streamed chats of exactly `tokens` tokens."""

    def chat() -> None:
        body: dict[str, Any] = {"model": model, "messages": PROMPT, "stream": True, "max_tokens": tokens}
        body |= {"min_tokens": tokens, "temperature": 0, "ignore_eos": True}
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=300
        ) as answer:
            answer.raise_for_status()
            for _ in answer.iter_raw():
                pass

    threads = [threading.Thread(target=chat) for _ in range(streams)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return streams * tokens / (time.perf_counter() - began)


@contextlib.contextmanager
def started(data: Path) -> Iterator[tuple[int, str, dict[str, float]]]:
    """Start the platform for the block; gives its process, its URL and when it could do what, in seconds."""
    url, began = f"http://127.0.0.1:{free_port()}", time.monotonic()
    argv = [sys.executable, "-m", "trimtab", "up", "--data", str(data), "--port", url.rpartition(":")[2]]
    platform = subprocess.Popen(argv, cwd=data.parent, stderr=subprocess.DEVNULL, env=dict(os.environ))
    seconds = {}
    try:
        for name, path, most in (("api_s", "/healthz", 120), ("ui_s", "", 120), ("ready_s", "/readyz", 600)):
            wait(url + path, most)
            seconds[name] = round(time.monotonic() - began, 1)
        tokens_per_second(url, "none", BASE, 1, 1)
        seconds["first_token_s"] = round(time.monotonic() - began, 1)
        print(", ".join(f"{name} {value}" for name, value in seconds.items()), flush=True)
        yield platform.pid, url, seconds
    finally:
        platform.terminate()
        platform.wait(60)


def measure_speed(platform: int, url: str, rounds: int) -> dict[str, float]:
    """Return tokens per second through the gateway and from the engine directly."""
    direct, key = engine_of(platform)
    found: dict[str, float] = {}
    for streams in (1, 8):
        tokens_per_second(direct, key, BASE, streams, 16)  # the first batch of a size costs more
        seen: dict[str, list[float]] = {"gateway": [], "direct": []}
        for _ in range(rounds):
            seen["gateway"].append(tokens_per_second(url, "none", BASE, streams, 64))
            seen["direct"].append(tokens_per_second(direct, key, BASE, streams, 64))
        for way, values in seen.items():
            found[f"{way}_{streams}"] = round(statistics.median(values), 1)
        print(
            f"{streams} streams: gateway {found[f'gateway_{streams}']}, direct {found[f'direct_{streams}']} tokens/s"
        )
    return found


def main() -> None:
    """Measure and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=Path("data"))
    args = parser.parse_args()
    model = (args.data / "models" / BASE).resolve()
    if not (model / "config.json").is_file():
        raise SystemExit(f"{model} is missing: run `trimtab models prepare` first")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        (data / "models").mkdir(parents=True)
        (data / "models" / BASE).symlink_to(model)
        with started(data) as (platform, url, seconds):
            figures |= seconds | measure_speed(platform, url, 1 if args.quick else 3)
        if has_cuda():
            with started(data) as (_, _, seconds):
                figures["second_start"] = seconds
        with contextlib.suppress(OSError, ValueError):
            figures["stages"] = json.loads((data / "cache" / "engine-starts.json").read_text())
    ok = figures["ui_s"] <= UI_BUDGET_S
    if "second_start" in figures:
        ok = ok and figures["first_token_s"] <= COLD_BUDGET_S
        ok = ok and figures["second_start"]["first_token_s"] <= WARM_BUDGET_S
    line = {
        "name": "start_up",
        "figure": figures["ui_s"],
        "unit": "s to the UI",
        "budget": UI_BUDGET_S,
        "ok": ok,
    }
    print(json.dumps(line | {"figures": figures, "versions": versions("vllm", "torch", "gradio", "duckdb")}))


if __name__ == "__main__":
    main()
