"""How the C allocator keeps and returns memory, for training on the CPU."""

from __future__ import annotations

import contextlib
import ctypes

_M_MMAP_THRESHOLD = -3


def map_large_blocks() -> bool:
    """Set glibc to map blocks of a megabyte and more each by itself; return whether it agreed.

    For a run that recomputes: what it keeps of each layer would otherwise fill the gaps that the layer's passing
    arrays leave, and the heap would grow by those arrays with each layer.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20) == 1)
    except (AttributeError, OSError):
        return False


def trim_heap() -> None:
    """Return free pages to the kernel now, where the allocator can (glibc): before something else of another size."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
