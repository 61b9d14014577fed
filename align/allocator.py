"""Make the C allocator keep the pages it has, for training on the CPU.

Activations of a step are freed and asked for again in the next; by default glibc gives large blocks back to
the kernel each time, and touching fresh pages is several times slower than reusing them.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_pages() -> bool:
    """Tell glibc never to return memory to the kernel; return whether it agreed (other C libraries do not).

    Peak memory stays what it was; memory after the peak is not given back until the process ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28), (_M_ARENA_MAX, 1))
    agreed = [
        mallopt(name, value) == 1 for name, value in settings
    ]  # each setting is made, whatever the others say
    return all(agreed)
