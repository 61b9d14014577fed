"""Record ids: a prefix and a time-ordered, lower-case ULID."""

from __future__ import annotations

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = tuple(range(120, -1, -10))  # ten bits at a time: an id is made for most chat requests
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return `prefix-` and 26 characters that sort by time of creation.

    48 bits are the time in milliseconds, 80 are random. Ids made by one process are strictly increasing, also
    within a millisecond.
    """
    return next_ids(prefix, 1)[0]


def next_ids(prefix: str, count: int) -> list[str]:
    """Return `count` increasing ids at once, for bulk inserts."""
    global _last
    with _lock:
        fresh = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big") >> 1
        first = max(fresh, _last + 1)
        _last = first + count - 1
    return [f"{prefix}-{_encode(value)}" for value in range(first, first + count)]


def _encode(value: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])
