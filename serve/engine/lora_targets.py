"""Which modules of a base model LoRA adapters may touch: the linear layers inside its blocks, read from its weights.

vLLM on the CPU also wraps the output head for LoRA, and then a request with `prompt_logprobs` ends the whole engine as
soon as another request is in the batch (it has one LoRA index per request, the head one input per prompt token). Trained
adapters leave the head alone, so the engine is configured to do so too, which also saves its work on every token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from common.architecture import in_experts, in_tower
from serve.safetensors_file import METADATA, parse_header

IN_A_BLOCK = re.compile(r"\.\d+\.(?:.*\.)?(\w+)\.weight$")
_FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}


@dataclass(frozen=True, slots=True)
class Stored:
    """How a tensor is stored: its `size`, and whether its values are floats, which those of packed weights are not."""

    size: tuple[int, ...]
    is_float: bool


def linear_modules(model_dir: Path) -> list[str] | None:
    """Return the names of the linear layers (`q_proj`, …) of a Hugging Face directory, None when it has no safetensors.

    Towers for images or sound are left out, which vLLM does not adapt by default. In a mixture of experts, the experts and
    what chooses among them are left out, as training leaves them out. A linear layer's weight is a matrix of the tensors'
    shapes; norms are vectors and convolutions have three axes.
    """
    names: set[str] = set()
    experts: set[str] = set()
    for tensor, stored in read_shapes(model_dir).items():
        match = None if in_tower(_module(tensor)) else IN_A_BLOCK.search(tensor)
        if match and len(stored.size) == 2:
            (experts if in_experts(_module(tensor)) else names).add(match[1])
    return sorted(names - experts) or None


def _module(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def read_shapes(model_dir: Path) -> dict[str, Stored]:
    """Return how each tensor of a directory's safetensors files is stored, from their headers."""
    found: dict[str, Stored] = {}
    for file in sorted(model_dir.glob("*.safetensors")):
        header, _ = parse_header(file)
        header.pop(METADATA, None)
        for name, facts in header.items():
            found[name] = Stored(tuple(facts.get("shape", ())), facts.get("dtype") in _FLOATS)
    return found
