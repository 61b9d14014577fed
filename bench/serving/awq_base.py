"""Write a model with its linear layers in AWQ's 4-bit format, rounded to nearest: `awq_base(source, target)`.

For measuring how vLLM serves LoRA on such bases (`bench.serving.parity --served awq`). AWQ itself chooses its scales from
activations (Lin et al. 2023, arXiv:2306.00978); rounding to nearest loses more, and costs the engine the same.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

GROUP = 64
"""Inputs that share a scale; divides the widths of SmolLM2-135M."""
BITS, PER_INT = 4, 8
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Column of eight that each nibble of an int32 holds, from the lowest."""


def packed(values: torch.Tensor) -> torch.Tensor:
    """Pack integers below 16, of shape (rows, columns), into int32 of shape (rows, columns / 8)."""
    rows, columns = values.shape
    nibbles = values.reshape(rows, columns // PER_INT, PER_INT)[:, :, list(ORDER)].to(torch.int64)
    shifts = BITS * torch.arange(PER_INT)
    whole = (nibbles << shifts).sum(-1)
    return torch.where(whole >= 2**31, whole - 2**32, whole).to(torch.int32)


def quantised(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return `qweight`, `qzeros` and `scales` of a linear layer's weight, of shape (outputs, inputs)."""
    by_input = weight.float().T
    inputs, outputs = by_input.shape
    groups = by_input.reshape(inputs // GROUP, GROUP, outputs)
    low, high = groups.amin(1).clamp(max=0), groups.amax(1).clamp(min=0)
    scales = ((high - low) / (2**BITS - 1)).clamp(min=1e-6).half()
    zeros = (-low / scales.float()).round().clamp(0, 15)
    whole = (groups / scales.float()[:, None] + zeros[:, None]).round().clamp(0, 15)
    return {
        "qweight": packed(whole.reshape(inputs, outputs)),
        "qzeros": packed(zeros),
        "scales": scales.contiguous(),
    }


def awq_base(source: Path, target: Path) -> Path:
    """Write `source` to `target` with every `*_proj` in 4 bits."""
    shutil.copytree(source, target)
    for file in target.glob("*.safetensors"):
        tensors: dict[str, torch.Tensor] = {}
        for name, tensor in load_file(file).items():
            if name.endswith("_proj.weight"):
                parts = quantised(tensor)
                tensors |= {name.removesuffix("weight") + part: value for part, value in parts.items()}
            else:
                tensors[name] = tensor.half()
        save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "awq", "bits": BITS, "group_size": GROUP, "zero_point": True, "version": "gemm",
    }  # fmt: skip
    (target / "config.json").write_text(json.dumps(config, indent=2))
    for index in target.glob("*.safetensors.index.json"):
        index.unlink()
    return target
