"""Logs in words. The texts are what vLLM and its libraries print."""

from __future__ import annotations

import pytest

from serve.engine.failure_reasons import cause

LOGS = [
    (
        "api_server.py: error: unrecognized arguments: --max-lenght 5",
        2,
        "vLLM does not accept --max-lenght 5",
    ),
    ("OSError: [Errno 98] Address already in use", 1, "its port is in use by another program"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", 1, "GPU's memory is too small"),
    ("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried", 1, "memory is too small"),
    ("ValueError: No available memory for the cache blocks.", 1, "memory left for the KV cache is too small"),
    (
        "OSError: /m does not appear to have a file named config.json.",
        1,
        "model directory has no config.json",
    ),
    (
        "ValueError: Model architectures ['FooForCausalLM'] are not supported",
        1,
        "no support for FooForCausalLM",
    ),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12040). Please update",
        1,
        "the NVIDIA driver is too old; 580 or newer is needed",
    ),
    ("RuntimeError: Failed to find C compiler. Please specify via CC", 1, "install gcc and python3-dev"),
    ("cuda_utils.c:6:10: fatal error: Python.h: No such file or directory", 1, "the headers of Python"),
    (
        "RuntimeError: Worker failed with error 'module 'triton.language' has no attribute 'float32''",
        1,
        "a mixture of experts with LoRA on a GPU alone",
    ),
    ("OSError: [Errno 28] No space left on device", 1, "the disk is full"),
    ("x\n(APIServer pid=7) ValueError: something odd\n", 1, "ValueError: something odd"),
    ("WARNING OSError: [Errno 24] harmless", 0, "it ended with status 0"),
    ("", -9, "it was killed"),
    ("", -15, "ended by SIGTERM"),
    ("", None, "does not say why"),
]


@pytest.mark.parametrize(("log", "status", "words"), LOGS)
def test_failure_reason_is_a_sentence(log: str, status: int | None, words: str) -> None:
    assert words in cause(log, status)
