"""What the C allocator does with the memory that a run frees, each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys

HELD = """
import numpy, psutil
from align.training.cpu import allocator

def resident():
    return psutil.Process().memory_info().rss / 1e6

assert allocator.map_large_blocks()
before = resident()
blocks = [numpy.ones(500_000) for _ in range(50)]  # 4 MB each
pin = numpy.ones(1000)  # above them on the heap
del blocks
kept = resident() - before
allocator.trim_heap()
print(kept, resident() - before)
"""


def test_freed_blocks_are_returned() -> None:
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    kept, given_back = map(float, done.stdout.split())
    assert kept < 20, f"{kept:.0f} MB stayed after 200 MB were freed"
    assert given_back < 20, f"{given_back:.0f} MB stayed after they were given back"
