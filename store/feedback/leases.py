"""Which comparison is before which rater: for two minutes it is shown to nobody else, unless it wants more votes.

In memory: one process owns a store, and a restart at worst shows a comparison to two raters.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

from store.db.database import Store

LEASE_S = 120.0


class Leases:
    """Leases by comparison and rater, each ending by itself; safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, dict[str, float]] = {}
        self.lock = threading.RLock()

    def held(self, rater: str) -> dict[str, int]:
        """Return by how many other raters each comparison is held now."""
        now = self._clock()
        with self.lock:
            for id in list(self._until):
                kept = {name: until for name, until in self._until[id].items() if until > now}
                if kept:
                    self._until[id] = kept
                else:
                    del self._until[id]
            counts = {id: sum(name != rater for name in held) for id, held in self._until.items()}
        return {id: count for id, count in counts.items() if count}

    def take(self, comparison: str, rater: str) -> None:
        """Hold a comparison for a rater, who gives up any other."""
        with self.lock:
            for held in self._until.values():
                held.pop(rater, None)
            self._until.setdefault(comparison, {})[rater] = self._clock() + LEASE_S

    def release(self, comparison: str, rater: str) -> None:
        """Let go of a comparison."""
        with self.lock:
            self._until.get(comparison, {}).pop(rater, None)


_of_store: weakref.WeakKeyDictionary[Store, Leases] = weakref.WeakKeyDictionary()


def of(db: Store) -> Leases:
    """Return the leases of a store's comparisons."""
    return _of_store.setdefault(db, Leases())
