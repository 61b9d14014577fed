"""Who holds the memory of each NVIDIA card, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from common.gpu_cards import Card, read_cards
from serve.engine.cards.placement import Placement
from serve.engine.pool import EnginePool

KEEP_S = 5.0
"""For how long an answer of the driver's tool is good: it takes up to a second, and every open page asks."""
OTHERS = "other programs"
TRAINING = "training"
UNSEEN = "training and other programs"


class CardUsage:
    """The cards of this machine with their holders: engines, training and other programs."""

    def __init__(self, pool: EnginePool, read: Callable[[], list[Card]] = read_cards) -> None:
        self._pool, self._read = pool, read
        self._cards: list[Card] = []
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def rows(self) -> list[dict[str, Any]]:
        """Return one row per card: `{index, name, total, free, holders: [{name, bytes, measured}]}`, sizes in bytes."""
        async with self._lock:
            if time.monotonic() - self._read_at > KEEP_S:
                self._cards = await asyncio.to_thread(self._read)
                self._read_at = time.monotonic()
        if not self._cards:
            return []
        pids = {e.spec.name: e.pid for e in self._pool.engines() if e.pid is not None}
        owners = await asyncio.to_thread(find_owners, pids)
        given = self._pool.cards.given()
        return [
            {
                "index": card.index,
                "name": card.name,
                "total": card.total,
                "free": card.free,
                "holders": holders(card, owners, given),
            }
            for card in self._cards
        ]


def find_owners(engines: Mapping[str, int]) -> dict[int, str]:
    """Return who each process of this platform belongs to: an engine by its name, else training. Blocking."""
    owners = dict.fromkeys(_family(os.getpid()), TRAINING)
    for name, pid in engines.items():
        owners |= dict.fromkeys([pid, *_family(pid)], f"engine {name}")
    return owners


def _family(pid: int) -> Sequence[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def holders(card: Card, owners: Mapping[int, str], given: Mapping[str, Placement]) -> list[dict[str, Any]]:
    """Return who holds how much of a card, largest first.

    In a container the driver shows no processes, or others' numbers; then an engine counts with what it was given
    (`measured` is False), and what remains is other programs' or training's.
    """
    sizes: dict[str, int] = {}
    for pid, size in card.held.items():
        owner = owners.get(pid, OTHERS)
        sizes[owner] = sizes.get(owner, 0) + size
    rows: list[dict[str, Any]] = [
        {"name": name, "bytes": size, "measured": True} for name, size in sizes.items() if name != OTHERS
    ]
    used = card.total - card.free
    for name, placement in given.items():
        on_it = any(c.index == card.index for c in placement.cards)
        if on_it and f"engine {name}" not in sizes:
            left = used - sum(row["bytes"] for row in rows)
            if left > 0:
                size = min(placement.taken, left)
                rows.append({"name": f"engine {name}", "bytes": size, "measured": False})
    if others := sizes.get(OTHERS):
        rows.append({"name": OTHERS, "bytes": others, "measured": True})
    elif not sizes and (rest := used - sum(row["bytes"] for row in rows)) > 0:
        rows.append({"name": UNSEEN, "bytes": rest, "measured": False})
    return sorted(rows, key=lambda row: -row["bytes"])
