"""Puts an adapter into one block of page-locked memory; runs inside an engine on a card, as part of the vLLM plugin.

vLLM locks each tensor of an adapter by itself: 420 calls of the driver for 30 blocks, each of which waits for what the
card computes, while every stream stands still. Views of a block that is locked are locked already, so that vLLM's own calls
do nothing. A block that an evicted adapter leaves is taken by the next one of its size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MARK = "_trimtab_one_block"
ALIGNED = 64
"""Elements at whose multiples a tensor begins, so that copies need no unaligned accesses."""
Allocate = Callable[[int, Any], Any]


def pin_adapters_in_one_block() -> None:
    """Have vLLM read adapters from one block each. Calling it again changes nothing."""
    from vllm.lora import lora_model

    method = lora_model.LoRAModel.__dict__["from_lora_tensors"]
    if not hasattr(method.__func__, MARK):
        lora_model.LoRAModel.from_lora_tensors = classmethod(_in_one_block(method.__func__, _pinned))


def _in_one_block(original: Callable[..., Any], allocate: Allocate) -> Callable[..., Any]:
    def from_lora_tensors(
        cls: Any,
        lora_model_id: int,
        tensors: dict[str, Any],
        peft_helper: Any,
        device: str = "cuda",
        dtype: Any = None,
        **more: Any,
    ) -> Any:
        if str(device) == "cpu" and dtype is not None:
            tensors = join(tensors, dtype, allocate)
        return original(cls, lora_model_id, tensors, peft_helper, device=device, dtype=dtype, **more)

    setattr(from_lora_tensors, MARK, True)
    return from_lora_tensors


def join(tensors: dict[str, Any], dtype: Any, allocate: Allocate) -> dict[str, Any]:
    """Return copies of `tensors` as `dtype` that are views of one block from `allocate` (elements, dtype)."""
    begins, size = {}, 0
    for name, tensor in tensors.items():
        begins[name] = size
        size += -(-tensor.numel() // ALIGNED) * ALIGNED
    block = allocate(size, dtype)
    joined = {}
    for name, tensor in tensors.items():
        view = block[begins[name] : begins[name] + tensor.numel()].view(tensor.shape)
        joined[name] = view.copy_(tensor)
    return joined


def _pinned(size: int, dtype: Any) -> Any:
    import torch
    from vllm.lora.lora_model import PIN_MEMORY

    return torch.empty(size, dtype=dtype, pin_memory=PIN_MEMORY)
