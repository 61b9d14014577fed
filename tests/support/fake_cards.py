"""A stand-in for `nvidia-smi`, which reports the cards that a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.gpu_cards import Card

GB = 10**9
MIB = 2**20


def card(
    index: int = 0, free: float = 80, total: float = 80, held: Mapping[int, int] | None = None, **more: str
) -> Card:
    """Return a card; memory in GB."""
    facts = {
        "uuid": f"GPU-{index}{index}aa-bb",
        "name": "NVIDIA H100 80GB HBM3",
        "driver": "580.65.06",
    } | more
    return Card(index=index, total=round(total * GB), free=round(free * GB), held=dict(held or {}), **facts)


def write_driver_tool(
    folder: Path, cards: Sequence[Card], parted: Sequence[int] = (), status: int = 0
) -> None:
    """Write an executable `nvidia-smi` into `folder` that reports `cards` in its own output format."""
    gpus = "\n".join(
        f"{c.index}, {c.uuid}, {c.name}, {c.driver}, {'Enabled' if c.index in parted else '[N/A]'}, "
        f"{c.total // MIB}, {c.free // MIB}"
        for c in cards
    )
    processes = "\n".join(f"{c.uuid}, {pid}, {size // MIB}" for c in cards for pid, size in c.held.items())
    folder.mkdir(parents=True, exist_ok=True)
    tool = folder / "nvidia-smi"
    tool.write_text(
        f"#!/bin/sh\ncase \"$1\" in\n--query-gpu=*) cat <<'E'\n{gpus}\nE\n;;\n"
        f"--query-compute-apps=*) cat <<'E'\n{processes}\nE\n;;\nesac\nexit {status}\n"
    )
    tool.chmod(0o755)
