"""What vLLM needs on an NVIDIA card beyond its flags: caches that outlive a start, and few CUDA graphs.

Every value is a default: the platform's own environment and the settings of the engine have precedence.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CACHES = {
    "VLLM_CACHE_ROOT": "vllm",  # torch.compile's artifacts, DeepGEMM's and FlashInfer's tuning
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "TILELANG_CACHE_DIR": "tilelang",
    "TVM_FFI_CACHE_DIR": "tvm-ffi",
    "QUACK_CACHE_DIR": "quack",
    "CUDA_CACHE_PATH": "cuda",  # what the driver compiles from PTX
}
"""Environment variable to directory of each compiler that an engine uses."""
GRAPH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512)
"""Batch sizes of CUDA graphs; a batch is padded to the next. vLLM's own 51 take three times as long to capture."""
GRAPH_ARGUMENTS = (
    "cudagraph-capture-sizes", "max-cudagraph-capture-size", "compilation-config", "enforce-eager",
    "optimization-level", "performance-mode", "speculative-config", "O", "cc",
)  # fmt: skip
"""Arguments of an engine that decide on CUDA graphs themselves."""


def cuda_environment(given: Mapping[str, str], cache: Path) -> dict[str, str]:
    """Return what an engine on a card gets where `given`, the platform's environment, does not say otherwise.

    FlashInfer's sampler is compiled at the first start, for two minutes and only where nvcc is installed; vLLM's own
    does the same.
    """
    chosen = {"VLLM_USE_FLASHINFER_SAMPLER": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    chosen |= {name: str(cache / folder) for name, folder in CACHES.items()}
    return {name: value for name, value in chosen.items() if name not in given}


def search_path(given: str | None) -> str:
    """Return PATH with the directory of this interpreter first, where pip puts `ninja` and other compilers' tools."""
    own = str(Path(sys.executable).parent)
    parts = [part for part in (given if given is not None else os.defpath).split(os.pathsep) if part != own]
    return os.pathsep.join([own, *parts])


def graph_arguments(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of the CUDA graphs to capture, unless `args` (vLLM's, without dashes) decide on them."""
    return {} if any(name in args for name in GRAPH_ARGUMENTS) else {"cudagraph-capture-sizes": GRAPH_SIZES}
