"""LoRA's part of a step on the CPU: `serve.vllm_plugin.cpu_kernels` against vLLM's own kernels, on SmolLM2-135M's shapes.

    python -m bench.serving.lora_cpu [--quick]

All linear layers of one step (30 blocks, rank 16), with the same inputs and weights, taking turns in one process. The cases:
one token of one adapter, 8 tokens of 4 adapters, 8 of which half belong to the base, 8 of the base alone, a prompt of 256
tokens of one adapter. The figure is the least ratio of the cases, vLLM's seconds over ours; both must agree to 1e-4.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from bench.versions import versions
from serve.vllm_plugin.cpu_kernels import GroupedPunica
from serve.vllm_plugin.patches import mask_rows_without_adapter

BLOCKS, RANK, SLOTS = 30, 16, 4
# inputs, and outputs of each slice: q/k/v, o, gate/up, down
LAYERS = ((576, (576, 192, 192)), (576, (576,)), (576, (1536, 1536)), (1536, (576,)))
CASES: dict[str, tuple[tuple[int, ...], bool]] = {
    "1 token, 1 adapter": ((1,), False),
    "8 tokens, 4 adapters": ((1, 2, 3, 4) * 2, False),
    "8 tokens, half of the base": ((1, 0, 2, 0, 3, 0, 4, 0), False),
    "8 tokens of the base": ((0,) * 8, False),
    "prompt of 256 tokens": ((1,) * 256, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 30")
    rounds = 5 if parser.parse_args().quick else 30
    torch.manual_seed(0)
    mask_rows_without_adapter()
    wrappers = {
        "vllm": PunicaWrapperCPU(512, 64, "cpu"),
        "trimtab": GroupedPunica(512, 64, "cpu"),
    }
    weights = [
        (
            tuple(torch.randn(SLOTS, 1, RANK, inputs) / 24 for _ in outputs),
            tuple(torch.randn(SLOTS, 1, width, RANK) / 4 for width in outputs),
            outputs,
        )
        for _ in range(BLOCKS)
        for inputs, outputs in LAYERS
    ]
    ratios = {}
    for name, (ids, prefill) in CASES.items():
        for wrapper in wrappers.values():
            wrapper.update_metadata(LoRAMapping(ids, ids, is_prefill=prefill), [1, 2, 3, 4], SLOTS, 49152)
        inputs = {width: torch.randn(len(ids), width) for width in (576, 1536)}
        seconds: dict[str, list[float]] = {who: [] for who in wrappers}
        results: dict[str, list[Any]] = {}
        for _ in range(rounds + 1):
            for who, wrapper in wrappers.items():
                results[who] = [torch.zeros(len(ids), sum(outputs)) for _, _, outputs in weights]
                began = time.perf_counter()
                with torch.inference_mode():
                    for y, (a, b, outputs) in zip(results[who], weights, strict=True):
                        wrapper.add_lora_linear(y, inputs[a[0].shape[-1]], a, b, 1.0, outputs)
                seconds[who].append(time.perf_counter() - began)
        for ours, theirs in zip(results["trimtab"], results["vllm"], strict=True):
            assert float((ours - theirs).abs().max()) < 1e-4, name
        median = {who: statistics.median(taken[1:]) for who, taken in seconds.items()}
        ratios[name] = round(median["vllm"] / median["trimtab"], 2)
        shown = {f"{who}_ms": round(taken * 1e3, 2) for who, taken in median.items()}
        print(json.dumps({"case": name, **shown, "ratio": ratios[name]}))
    least = min(ratios.values())
    print(
        json.dumps(
            {
                "name": "lora_cpu",
                "figure": least,
                "unit": "vLLM's seconds over ours, least of the cases",
                "budget": 1.0,
                "ok": least > 1,
                "threads": torch.get_num_threads(),
                "versions": versions("torch", "vllm"),
            }
        )
    )


if __name__ == "__main__":
    main()
