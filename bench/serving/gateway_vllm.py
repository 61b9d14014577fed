"""vLLM's own serving benchmark as a client: of the gateway, and of the engine directly.

    python -m bench.serving.gateway_vllm [--quick] [--prompts 64] [--streams 16]

Runs `vllm bench serve` (its code; its console script does not start from the CPU distribution) over a real engine with
SmolLM2, random prompts of 64 tokens and answers of 32, in turns. Every request must succeed. Ends with one line of JSON
whose figure is the gateway's share of the output tokens a second that vLLM's client counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.serving.engine_turns import KEY, engine_and_gateway
from bench.serving.servers import ROOT
from bench.versions import versions

THROUGHPUT_BUDGET = 0.98

CLIENT = (
    "import sys\n"
    "from vllm.benchmarks.serve import add_cli_args, main\n"
    "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
    "parser = FlexibleArgumentParser()\n"
    "add_cli_args(parser)\n"
    "main(parser.parse_args(sys.argv[1:]))\n"
)


def ask(url: str, key: str, served: str, tokenizer: Path, prompts: int, streams: int) -> dict[str, Any]:
    """Load `url` with vLLM's client; return its result file."""
    with tempfile.TemporaryDirectory() as scratch:
        argv = [
            *(sys.executable, "-c", CLIENT, "--backend", "openai-chat", "--endpoint", "/v1/chat/completions"),
            *("--base-url", url, "--model", str(tokenizer), "--served-model-name", served),
            *(
                "--dataset-name",
                "random",
                "--random-input-len",
                "64",
                "--random-output-len",
                "32",
                "--ignore-eos",
            ),
            *(
                "--num-prompts",
                str(prompts),
                "--max-concurrency",
                str(streams),
                "--seed",
                "7",
                "--temperature",
                "0",
            ),
            *("--save-result", "--result-dir", scratch, "--result-filename", "out.json", "--disable-tqdm"),
        ]
        env = os.environ | {"OPENAI_API_KEY": key, "VLLM_PLUGINS": "", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stderr[-3000:])
        return dict(json.loads((Path(scratch) / "out.json").read_text()))


async def compare(prompts: int, streams: int, rounds: int) -> dict[str, Any]:
    """Measure engine and gateway in turns; return the results of vLLM's client."""
    seen: dict[str, list[dict[str, Any]]] = {"direct": [], "gateway": []}
    async with engine_and_gateway() as pair:
        for _ in range(rounds):
            for name, url, served in pair.sides():
                found = await asyncio.to_thread(ask, url, KEY, served, pair.model, prompts, streams)
                seen[name].append(found)
    return {name: _middle(found) for name, found in seen.items()}


def _middle(found: list[dict[str, Any]]) -> dict[str, float]:
    keys = ("output_throughput", "median_ttft_ms", "median_tpot_ms", "p99_ttft_ms")
    row = {key: round(statistics.median(one[key] for one in found), 2) for key in keys}
    return row | {
        "completed": sum(one["completed"] for one in found),
        "asked": sum(one["num_prompts"] for one in found),
    }


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of few prompts")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--streams", type=int, default=16)
    args = parser.parse_args()
    seen = asyncio.run(compare(32 if args.quick else args.prompts, args.streams, 1 if args.quick else 3))
    print(json.dumps(seen, indent=2), flush=True)
    share = round(seen["gateway"]["output_throughput"] / max(seen["direct"]["output_throughput"], 0.1), 3)
    whole = all(row["completed"] == row["asked"] for row in seen.values())
    result = {
        "name": "gateway_vllm",
        "figure": share,
        "unit": "of the output tokens/s of the engine asked directly",
        "budget": THROUGHPUT_BUDGET,
        "ok": whole and share >= THROUGHPUT_BUDGET,
        "seen": seen,
        "versions": versions("vllm", "uvicorn", "starlette"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
