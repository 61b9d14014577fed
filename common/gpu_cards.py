"""The NVIDIA cards of this machine that a process may use, as the driver's tool `nvidia-smi` reports them.

A process of its own, and not the driver's library: a driver that hangs then costs a timeout, and no CUDA or NVML state
is left in a process that forks.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 2**20
MIN_DRIVER = 580
"""Oldest branch of the driver that runs CUDA 13, which torch and vLLM are built for."""
TIMEOUT_S = 20.0
VISIBLE = "CUDA_VISIBLE_DEVICES"
_FIELDS = ("index", "uuid", "name", "driver_version", "mig.mode.current", "memory.total", "memory.free")


@dataclass(frozen=True, slots=True)
class Card:
    """One card: its index as the driver counts, and its memory in bytes; `held` is memory by process id."""

    index: int
    uuid: str
    name: str
    driver: str
    total: int
    free: int
    held: Mapping[int, int] = field(default_factory=dict)

    @property
    def driver_branch(self) -> int | None:
        """The first number of the driver's version, None where it has none."""
        first = self.driver.partition(".")[0]
        return int(first) if first.isdecimal() else None


def hides_all_cards(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the environment leaves CUDA no card."""
    visible = environment.get(VISIBLE)
    return visible is not None and visible.split(",")[0].strip() in ("", "-1")


def has_cuda(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether an NVIDIA driver with a card is present and usable, without importing torch."""
    return bool(glob.glob("/dev/nvidia[0-9]*")) and not hides_all_cards(environment)


def read_cards(environment: Mapping[str, str] = os.environ) -> list[Card]:
    """Return the cards that CUDA_VISIBLE_DEVICES names, in its order; all without it, none without a driver. Blocking."""
    tool = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if tool is None or hides_all_cards(environment):
        return []
    held = _read_processes(tool)
    found = []
    for row in _query(tool, f"--query-gpu={','.join(_FIELDS)}"):
        if len(row) == len(_FIELDS) and row[0].isdecimal():
            index, uuid, name, driver, parted, total, free = row
            # The memory of a card that is parted (MIG) is not that of the part which a process gets.
            if parted != "Enabled" and total.isdecimal() and free.isdecimal():
                memory = int(total) * MIB, int(free) * MIB
                found.append(Card(int(index), uuid, name, driver, *memory, held.get(uuid, {})))
    return _select(found, environment.get(VISIBLE))


def _select(cards: list[Card], visible: str | None) -> list[Card]:
    """Return the cards that `visible` names by index or by the beginning of their UUID, up to the first unknown name."""
    if visible is None:
        return cards
    chosen: list[Card] = []
    for name in (part.strip() for part in visible.split(",")):
        card = next((c for c in cards if name in (str(c.index), c.uuid) or _is_uuid_of(name, c)), None)
        if card is None or card in chosen:  # CUDA ignores what follows a name that it does not accept
            break
        chosen.append(card)
    return chosen


def _is_uuid_of(name: str, card: Card) -> bool:
    return name.startswith("GPU-") and card.uuid.startswith(name)


def _read_processes(tool: str) -> dict[str, dict[int, int]]:
    """Return the bytes that each process holds, by card; a container may see none of them."""
    found: dict[str, dict[int, int]] = {}
    for row in _query(tool, "--query-compute-apps=gpu_uuid,pid,used_memory"):
        if len(row) == 3 and row[1].isdecimal() and row[2].isdecimal():
            found.setdefault(row[0], {})[int(row[1])] = int(row[2]) * MIB
    return found


def _query(tool: str, what: str) -> list[list[str]]:
    """Return the rows that the tool prints; none where it fails."""
    try:
        done = subprocess.run(
            [tool, what, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    return [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
