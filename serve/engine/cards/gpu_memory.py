"""How much of a card an engine takes: its weights, the KV cache of a stated number of tokens, and what vLLM runs with.

Read from `config.json` and the headers of the weights, so nothing is loaded. vLLM's own default, 92% of the card
whatever the model, would leave no room for training beside it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.architecture import text_config
from serve.engine.lora_targets import IN_A_BLOCK
from serve.safetensors_file import METADATA, parse_header

GB = 10**9
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", re.IGNORECASE)
WIDE_FLOATS = {"F64", "F32", "F16", "BF16"}
ACCEPTED = "a share of the card above 0 and up to 1, or a size such as 12GB"

CONTEXT = 1.0 * GB
"""CUDA's context and the libraries' workspaces."""
GRAPHS = 0.8 * GB
"""CUDA graphs of the sizes in `cuda_environment`."""
BATCH_TOKENS = 8192
BATCH_ROWS = 1024
"""vLLM's largest batch on a data-centre card: tokens of a step, and rows whose logits it samples from."""
SAMPLER_BYTES = 16
"""Bytes of the sampler per logit: float32 logits, their sorted copy and its indices."""
MIN_TOKENS = 8192
"""Least KV cache that an engine is started with, tokens, unless its context is shorter."""
RESERVED_TOKENS = 256
"""KV cache beside the tokens of requests: vLLM holds one block back, and rounds a request up to whole blocks (16 to 128)."""
SPARE_SHARE, MIN_SPARE = 0.02, 0.75 * GB
"""Share of a card that is left alone, and bytes at the least: vLLM compares its part with what is free once it has its
own CUDA context, which the driver still counts as free before the start."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What of a model decides on memory: bytes of its weights and of the KV cache per token, and its shape."""

    weights: int
    kv_per_token: int
    max_length: int
    hidden: int
    intermediate: int
    vocabulary: int
    lora_bytes_per_rank: int


@dataclass(frozen=True, slots=True)
class GpuNeed:
    """Memory of an engine on each of its cards, in bytes; `tokens` fit in `kv` over all cards."""

    weights: int
    kv: int
    runtime: int
    tokens: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.runtime

    def explain(self) -> str:
        """Return the parts in words."""
        return (
            f"{self.total / GB:.1f} GB: weights {self.weights / GB:.1f}, KV cache of {self.tokens:,} tokens "
            f"{self.kv / GB:.1f}, vLLM itself {self.runtime / GB:.1f}"
        )


def parse_memory(value: str | float) -> float:
    """Return a setting as a share (up to 1) or as bytes (above 1). Raises ValueError with what is accepted."""
    if isinstance(value, str) and (match := SIZE.fullmatch(value.strip())):
        number, unit, binary = match.groups()
        size = float(number) * UNITS[unit.upper()]
        if binary:
            size *= 1.024 ** (list(UNITS).index(unit.upper()))
        if size > 1:
            return size
    else:
        try:
            share = float(value)
        except ValueError:
            share = math.nan
        if 0 < share <= 1:
            return share
    raise ValueError(f"{value!r}; accepted: {ACCEPTED}")


def read_model_size(model_dir: Path | None, args: Mapping[str, Any]) -> ModelSize | None:
    """Return the size of a Hugging Face directory served with vLLM's `args`; None where its files do not say it."""
    if model_dir is None:
        return None
    try:
        config = text_config(json.loads((model_dir / "config.json").read_text(encoding="utf-8")))
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        heads = int(config["num_attention_heads"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    wide = 4 if str(args.get("dtype", "auto")) in ("float32", "float") else 2
    try:
        weights, adapter = _read_weights(model_dir, wide)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not weights:
        return None
    length = str(args.get("max-model-len") or config.get("max_position_embeddings"))
    return ModelSize(
        weights=weights,
        kv_per_token=_kv_per_token(config, layers, heads, hidden, _kv_bytes(args, wide)),
        max_length=int(length) if length.isdecimal() else MIN_TOKENS,
        hidden=hidden,
        intermediate=int(config.get("intermediate_size") or 4 * hidden),
        vocabulary=int(config.get("vocab_size") or 0),
        lora_bytes_per_rank=adapter,
    )


def _read_weights(model_dir: Path, wide: int) -> tuple[int, int]:
    """Return the bytes of the weights as they are served, and those of an adapter of rank 1.

    Floats are served in `wide` bytes, whatever they are stored in; packed weights as they are stored.
    """
    weights = adapter = 0
    for file in sorted(model_dir.glob("*.safetensors")):
        header, _ = parse_header(file)
        header.pop(METADATA, None)
        for name, facts in header.items():
            shape, (start, end) = facts["shape"], facts["data_offsets"]
            weights += math.prod(shape) * wide if facts["dtype"] in WIDE_FLOATS else end - start
            if len(shape) == 2 and IN_A_BLOCK.search(name):
                adapter += sum(shape) * wide
    return weights, adapter


def _kv_bytes(args: Mapping[str, Any], wide: int) -> int:
    return 1 if str(args.get("kv-cache-dtype", "auto")).startswith("fp8") else wide


def kv_bytes_per_token(config: Mapping[str, Any], width: int) -> int | None:
    """Return the KV cache per token with values of `width` bytes, None where `config.json` does not say it."""
    config = text_config(config)
    try:
        layers, heads, hidden = (
            int(config[name]) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
        )
        return _kv_per_token(config, layers, heads, hidden, width)
    except (KeyError, TypeError, ValueError):
        return None


def _kv_per_token(config: Mapping[str, Any], layers: int, heads: int, hidden: int, width: int) -> int:
    if rank := config.get("kv_lora_rank"):  # multi-head latent attention keeps one compressed vector
        return layers * (int(rank) + int(config.get("qk_rope_head_dim") or 0)) * width
    groups = int(config.get("num_key_value_heads") or heads)
    return 2 * layers * groups * int(config.get("head_dim") or hidden // heads) * width


def need(model: ModelSize, tokens: int, max_loras: int, max_lora_rank: int, cards: int = 1) -> GpuNeed:
    """Return the memory on each of `cards` for a KV cache of `tokens`."""
    adapters = max_loras * max_lora_rank * model.lora_bytes_per_rank
    step = BATCH_TOKENS * (4 * model.hidden + 3 * model.intermediate) * 2
    sampling = BATCH_ROWS * model.vocabulary * SAMPLER_BYTES
    return GpuNeed(
        weights=math.ceil(model.weights / cards),
        kv=math.ceil((tokens + RESERVED_TOKENS) * model.kv_per_token / cards),
        runtime=math.ceil(CONTEXT + GRAPHS + step + sampling + adapters / cards),
        tokens=tokens,
    )


def training_room(model: ModelSize, four_bit: bool = False) -> int:
    """Return the memory that training an adapter of this model beside the engine takes, roughly."""
    weights = model.weights * 0.3 if four_bit else model.weights
    return math.ceil(1.25 * weights + 3 * GB)


def default_tokens(
    model: ModelSize, wanted: int, free: int, max_loras: int, max_lora_rank: int, cards: int = 1
) -> int:
    """Return how many tokens of KV cache to take of `free` bytes on each card: `wanted`, less where room is short.

    The cache shrinks until a training run over the model in 16 bits fits beside it, else one over the model in 4 bits,
    but not below one context or `MIN_TOKENS`. The result may still not fit.
    """
    fixed = need(model, 0, max_loras, max_lora_rank, cards).total
    least = min(model.max_length, MIN_TOKENS, wanted)
    for room in (training_room(model), training_room(model, four_bit=True)):
        tokens = int((free - fixed - room / cards) * cards // max(1, model.kv_per_token))
        if tokens >= least:
            return min(wanted, tokens)
    return least
