"""Make the C allocator keep the pages it has, for training on the CPU.

Activations of a step are freed and asked for again in the next; by default glibc gives large blocks back to
the kernel each time, and touching fresh pages is several times slower than reusing them.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -3, -4, -8


def keep_pages() -> bool:
    """Set glibc never to return memory to the kernel; return whether it did (other C libraries do not).

    Peak memory stays what it was; memory after the peak is not given back until `trim_heap` or the end.
    """
    return _set((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28), (_M_ARENA_MAX, 1))


def map_large_blocks() -> bool:
    """Set glibc to map blocks of a megabyte and more each by itself; return whether it agreed.

    For a run that recomputes: what it keeps of each layer would otherwise fill the gaps that the layer's passing
    arrays leave, and the heap would grow by those arrays with each layer.
    """
    return _set((_M_MMAP_THRESHOLD, 2**20))


def trim_heap() -> None:
    """Return free pages to the kernel now, where the allocator can (glibc): before something else of another size."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(*settings: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    agreed = [mallopt(name, value) == 1 for name, value in settings]  # each is made, whatever the others say
    return all(agreed)
