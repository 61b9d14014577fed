"""Why an engine did not start or ended, in words, from the last lines of its log.

The text of a log is a hint for people only: nothing is decided by it.
"""

from __future__ import annotations

import re
import signal

CAUSES: tuple[tuple[str, str], ...] = (
    (r"error: (?:unrecognized arguments?|ambiguous option|argument .*?): ?(.+)", "vLLM does not accept {0}"),
    (r"error: (argument .+)", "vLLM does not accept {0}"),
    (
        r"NVIDIA driver on your system is too old \(found version (\d+)\)|CUDA driver version is insufficient",
        "the NVIDIA driver is too old; 580 or newer is needed (CUDA 13)",
    ),
    (
        r"Failed to find C compiler|Python\.h: No such file",
        "a C compiler and the headers of Python are needed on a GPU; install gcc and python3-dev",
    ),
    (
        r"Could not find nvcc",
        "nvcc is needed by a setting of this engine; install the CUDA toolkit, or remove it",
    ),
    (r"Address already in use", "its port is in use by another program"),
    (r"CUDA out of memory|torch\.OutOfMemoryError|HIP out of memory", "the GPU's memory is too small for it"),
    (
        r"Cannot allocate memory|std::bad_alloc|DefaultCPUAllocator: can't allocate",
        "memory is too small for it",
    ),
    (
        r"[Nn]o available memory for the cache blocks|[Ff]ree memory on device .* is less than|"
        r"not enough (?:free )?memory",
        "the memory left for the KV cache is too small; lower max-model-len or kv-cache-memory-bytes",
    ),
    (
        r"larger than the maximum number of tokens that can be stored in KV cache|"
        r"KV cache is needed, which is larger",
        "the KV cache is too small for one request of the model's full length; raise kv_cache_memory_bytes or "
        "set max-model-len",
    ),
    (r"Repository Not Found|is not a valid model identifier", "the model is unknown to the model hub"),
    (r"does not appear to have a file named (\S+)", "the model directory has no {0}"),
    (
        r"module 'triton.language' has no attribute",
        "vLLM serves a mixture of experts with LoRA on a GPU alone",
    ),
    (r"Cannot find any model weights|no \.safetensors files", "the model directory holds no weights"),
    (r"Model architectures? \[?'?(\w+)'?\]? (?:are|is) not supported", "vLLM has no support for {0}"),
    (
        r"LocalEntryNotFoundError|couldn't connect to|[Oo]ffline mode is enabled",
        "the model is not on this disk",
    ),
    (r"No space left on device", "the disk is full"),
    (r"ModuleNotFoundError: No module named '([\w.]+)'", "the package {0} is not installed"),
    (r"(?m)^(?!.*WARNING).*?\b((?:Value|Runtime|OS|Type|Key|Import)Error: .+)$", "{0}"),
)


def cause(log: str, status: int | None) -> str:
    """Say why in one sentence; `status` is the exit status, negative for a signal, None while it runs."""
    if status == -signal.SIGKILL:
        return "it was killed (by the system for want of memory, or by an operator)"
    for pattern, sentence in CAUSES:
        if found := list(re.finditer(pattern, log)):
            text = sentence.format(*found[0].groups()).strip()
            return text[:300]
    if status is not None and status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    return "its log does not say why" if status is None else f"it ended with status {status}"
