"""Record ids: a prefix and a time-ordered, lower-case ULID."""

from __future__ import annotations

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
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
    letters = [""] * 26
    for place in range(25, -1, -1):
        letters[place] = _ALPHABET[value & 31]
        value >>= 5
    return "".join(letters)
