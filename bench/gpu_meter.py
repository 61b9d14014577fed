"""What the GPU benchmarks measure with: memory, seconds per step, the rate of matrix products, versions."""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch


class Meter:
    """Peak GPU memory, and seconds per step without the first, which warms up kernels and the allocator."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def gigabytes(self) -> dict[str, float]:
        """Return the peak of this process; nothing without a GPU."""
        if not self.cuda:
            return {}
        free, total = torch.cuda.mem_get_info()
        return {
            "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
            "reserved_gb": round(torch.cuda.max_memory_reserved() / 1e9, 2),
            # of an otherwise idle card: what the driver and its kernels take beside tensors
            "context_gb": round((total - free - torch.cuda.memory_reserved()) / 1e9, 2),
        }

    def synchronize(self) -> None:
        """Wait for the device, so that times cover finished work."""
        if self.cuda:
            torch.cuda.synchronize()


def step_timer(meter: Meter, profile: bool = False) -> tuple[Any, list[float]]:
    """Return a callback that records the end of each step, and the list of those times.

    With `profile` the third step is profiled, and its kernels printed to stderr.
    """
    from transformers import TrainerCallback

    times: list[float] = []
    activities = [torch.profiler.ProfilerActivity.CPU]
    if meter.cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler = torch.profiler.profile(activities=activities)

    class Timer(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            meter.synchronize()
            times.append(time.perf_counter())

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            if profile and len(times) == 3:
                profiler.start()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            meter.synchronize()
            times.append(time.perf_counter())
            if profile and len(times) == 4:
                profiler.stop()
                _print_profile(profiler, meter.cuda)

    return Timer(), times


def _print_profile(profiler: Any, cuda: bool) -> None:
    rows = profiler.key_averages()
    for kind in ("kernels", "operations") if cuda else ("operations",):
        found = [row for row in rows if (str(row.device_type) == "DeviceType.CUDA") == (kind == "kernels")]
        of = "self_device_time_total" if kind == "kernels" else "self_cpu_time_total"
        total = sum(getattr(row, of) for row in found)
        print(f"{kind}: {total / 1000:.1f} ms, {sum(row.count for row in found)} calls", file=sys.stderr)
        for row in sorted(found, key=lambda row: -getattr(row, of))[:22]:
            print(f"  {getattr(row, of) / 1000:8.2f} ms {row.count:6} {row.key[:100]}", file=sys.stderr)


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Measure the device's rate of large matrix products in FLOP/s."""
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    meter = Meter(device)
    best = 0.0
    for _ in range(5):
        meter.synchronize()
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        meter.synchronize()
        best = max(best, 20 * n**3 / (time.perf_counter() - began))
    return best


def versions() -> dict[str, str]:
    names = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "liger-kernel")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = getattr(sys.modules.get(name), "__version__", "unknown")
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found
