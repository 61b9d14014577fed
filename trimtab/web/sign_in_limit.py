"""How many wrong passwords are tried before a name, or a machine, has to wait."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

WINDOW_S = 900.0
PER_NAME_AND_HOST, PER_NAME, PER_HOST = 10, 100, 100
"""Max failures per `WINDOW_S`: of one name from one machine, of one name from anywhere, of one machine with any names.

A name from anywhere may fail more often, or anybody could lock anybody else out.
"""
MAX_KEYS = 10_000
"""Names and machines that are kept; those that failed longest ago go first."""


class SignInLimit:
    """Counts failures in memory: a restart forgives them. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()

    def wait_s(self, name: str, host: str) -> int:
        """Return in how many seconds the next try is allowed; 0 is now."""
        now = self._clock()
        waits = (self._wait(key, most, now) for key, most in _keys(name, host))
        return math.ceil(max(waits))

    def _wait(self, key: tuple[str, ...], most: int, now: float) -> float:
        recent = [at for at in self._failures.get(key, ()) if now - at < WINDOW_S]
        return recent[-most] + WINDOW_S - now if len(recent) >= most else 0.0

    def began(self, name: str, host: str) -> None:
        """Count a try as a failure until it turns out to be right: of many at once none gets past the limit."""
        now = self._clock()
        for key, most in _keys(name, host):
            self._failures.setdefault(key, deque(maxlen=most)).append(now)
            self._failures.move_to_end(key)
        while len(self._failures) > MAX_KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, host: str) -> None:
        """Take back a try that was right, and forgive the failures of this name from this machine."""
        for key, most in _keys(name, host):
            failures = self._failures.get(key)
            if failures:
                failures.pop()
            if most == PER_NAME_AND_HOST or not failures:
                self._failures.pop(key, None)


def _keys(name: str, host: str) -> Iterator[tuple[tuple[str, ...], int]]:
    folded = name.casefold()
    yield ("both", folded, host), PER_NAME_AND_HOST
    yield ("name", folded), PER_NAME
    yield ("host", host), PER_HOST
