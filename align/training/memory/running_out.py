"""Memory that ran out: how it shows, what to do about it in words, and giving back what a failed step held."""

from __future__ import annotations

import gc
import math

import torch

from align.errors import ENGINE_SHARE

# What errors of other types say when memory ran out: torch on the CPU, cuBLAS, and CUDA calls outside torch's allocator.
_WORDS = (
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "CUDA out of memory",
)

HINT_TRAINING = f"lower max_length, set gradient_checkpointing = true, use QLoRA, or {ENGINE_SHARE}"
HINT_LOADING = f"use QLoRA (qlora = true) or a smaller base model, or {ENGINE_SHARE}"
HINT_LOADING_QLORA = f"use a smaller base model, or {ENGINE_SHARE}"
HINT_PROBE = (
    f"{ENGINE_SHARE} or wait until others free memory, and resume the run: the training itself is done"
)


def ran_out(error: BaseException) -> str | None:
    """Return what `error` says in one line if it means that memory ran out, else None."""
    said = str(error).partition("\n")[0]
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return said or type(error).__name__
    return said if isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS) else None


def release() -> None:
    """Free what nobody refers to any more, on the device too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_memory(device: str) -> float:
    """Return the bytes that this process could still take on `device`; no bound on the CPU, where nobody asks."""
    if device != "cuda":
        return math.inf
    free, _ = torch.cuda.mem_get_info()
    return free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
