"""Several replicas of an engine behind the gateway against one: tokens per second of the whole platform.

    python -m bench.serving.replicas [--random 7b | --model DIR] [--replicas 2] [--streams 64] [--tokens 128] [--seconds 20]

`trimtab up` runs with each number of replicas, on a card each where there are as many cards; `--streams` clients per
replica ask it without pause, after a warm-up. The last line's figure is the tokens per second of `--replicas` over those of
one. On a card each, one replica's share of the other's card and of the gateway is what is missing to the number of cards;
on one machine's processors there is nothing to gain.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from bench.bench_models import embedded, random_directory
from bench.serving.servers import load
from bench.versions import versions
from bench.whole_loop import BASE, cards, settings
from tests.support.platform import PlatformProcess, wait_for

BUDGET = 0.95
"""Of one replica's tokens per second, by replica: 1.9 for two."""


def measure(data: Path, model: Path, replicas: int, args: argparse.Namespace) -> dict[str, Any]:
    """Start the platform with `replicas`, load it, and return what it gave."""
    import psutil

    (data / "models").mkdir(parents=True, exist_ok=True)
    base = model.name if args.model or args.random else BASE
    if not (data / "models" / base).exists():
        (data / "models" / base).symlink_to(model, target_is_directory=True)
    platform = PlatformProcess(data, settings(model, base, "never", replicas))
    try:
        platform.start()
        wait_for(
            lambda: all(e["state"] == "ready" for e in platform.get("/api/status")["engines"]),
            900,
            platform.say,
        )
        streams = args.streams * replicas
        load(
            platform.url,
            "assistant",
            streams,
            key=platform.key,
            tokens=args.tokens,
            seconds=args.seconds / 2,
            stream=True,
        )
        assert platform.process is not None
        own = psutil.Process(platform.process.pid)
        before = sum(own.cpu_times()[:2])
        seen = load(
            platform.url,
            "assistant",
            streams,
            key=platform.key,
            tokens=args.tokens,
            seconds=args.seconds,
            stream=True,
        )
        taken = sum(own.cpu_times()[:2]) - before
        return {
            "replicas": replicas,
            "streams": streams,
            **seen,
            "platform_cpu": round(taken / args.seconds, 2),
            **cards(),
        }
    finally:
        platform.stop()


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a Hugging Face directory; default: SmolLM2-135M-Instruct")
    parser.add_argument("--random", help="a shape of bench/random_model.py with random weights")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--streams", type=int, default=64, help="per replica")
    parser.add_argument("--tokens", type=int, default=128, help="length of an answer")
    parser.add_argument("--seconds", type=float, default=20.0, help="of one measurement")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = args.model or embedded()
        if args.random:
            model = random_directory(args.random, Path(scratch) / f"random-{args.random}", model)
        seen = []
        for replicas in (args.replicas, 1):
            seen.append(measure(Path(scratch) / "data", model.absolute(), replicas, args))
            print(json.dumps(seen[-1]), flush=True)
    ratio = round(seen[0]["tokens_per_s"] / max(seen[1]["tokens_per_s"], 0.1), 3)
    budget = round(BUDGET * args.replicas, 2)
    print(json.dumps({
        "name": "replicas", "figure": ratio, "unit": f"x the tokens/s of one replica, {args.replicas} replicas",
        "budget": budget, "ok": ratio >= budget and not any(row["failed"] for row in seen),
        "versions": versions("vllm", "torch"),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
