"""What a base model needs to be served and trained, in words, from `config.json` and the size of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.errors import AlignError
from align.recipe.plan import Rows, plan
from align.recipe.recipe import resolve
from common.architecture import is_mixture_of_experts
from serve.engine.cards.gpu_memory import kv_bytes_per_token

TYPICAL = Rows(count=256, prompt=120.0, answer=180.0, longest=700)
"""Rows of a first training run: short chats."""


def estimate(directory: Path, config: Mapping[str, Any], parameters: int, on_cpu: bool) -> list[str]:
    """Return lines on the memory of serving and of a first DPO run."""
    size, device = (4, "cpu") if on_cpu else (2, "cuda")
    kv = kv_bytes_per_token(config, size)
    cache = f", {_gb(1000.0 * kv)} of key-value cache per 1,000 tokens" if kv else ""
    kind = "float32, on the CPU" if on_cpu else "16 bits"
    lines = [
        f"serving: {_gb(float(parameters) * size)} for {parameters / 1e9:.2f} billion weights in {kind}{cache}"
    ]
    if is_mixture_of_experts(config):
        return [*lines, "training: no estimate for a mixture of experts; at least the memory of its weights"]
    for label, qlora in (("DPO with LoRA", False), ("with QLoRA (4 bits)", True)):
        try:
            need = plan(directory, resolve("dpo", qlora), TYPICAL, device).total
            lines.append(f"training: about {_gb(need)} for {label}, on short chats")
        except AlignError:
            lines.append(
                f"training: no estimate for {label}; config.json has names that the plan doesn't read"
            )
    return lines


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
