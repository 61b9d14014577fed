"""What `trimtab doctor` looks at on a machine with NVIDIA cards; `trimtab up` logs what of it is missing."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common.gpu_cards import MIN_DRIVER, Card, read_cards
from serve.engine.cards.gpu_memory import GB
from serve.engine.cards.placement import Cards
from serve.engine.vllm_preload import vllm_build
from serve.errors import EngineFailed
from trimtab.base_models.local import engine_specs
from trimtab.check import Check
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings
from trimtab.runs.worker_device import UnknownDevice, choose_cards

MIN_CACHE_GB = 5
"""Disk for what engines and workers compile, and for a model's download to begin."""
log = logging.getLogger(__name__)


def gpu_checks(
    settings: Settings,
    paths: DataPaths,
    read: Callable[[], list[Card]] = read_cards,
    build: Callable[[], str] = vllm_build,
) -> list[Check]:
    """Return the checks of the cards, none on a machine without; changes nothing."""
    cards = read()
    if not cards:
        return []
    if build() != "vllm":
        said = f"{describe(cards)}; the profile for the processor is installed: `PROFILE=cuda make setup` uses the card"
        return [Check("cards", True, said)]
    return [
        Check("cards", True, describe(cards)),
        _driver(cards),
        _compiler(os.environ, Path(_include_directory())),
        _disk(paths),
        _training_device(settings.training.device, cards),
        *([] if paths.read_platform() else _memory(settings, paths, read)),
    ]


def warn(settings: Settings, paths: DataPaths) -> None:
    """Log what is missing for the cards of this machine. Blocking."""
    for check in gpu_checks(settings, paths):
        if not check.ok:
            log.warning("%s: %s", check.what, check.said)


def describe(cards: Sequence[Card]) -> str:
    """Return the cards with their memory in words."""
    return ", ".join(
        f"card {card.index} {card.name} ({card.free / GB:.0f} of {card.total / GB:.0f} GB free)"
        for card in cards
    )


def _driver(cards: Sequence[Card]) -> Check:
    version, branch = cards[0].driver, cards[0].driver_branch
    said = f"NVIDIA driver {version} ({MIN_DRIVER} or newer is needed, for CUDA 13)"
    return Check("driver", branch is None or branch >= MIN_DRIVER, said)


def _compiler(environment: Mapping[str, str], include: Path) -> Check:
    """Look for what Triton compiles its launcher with at the first start."""
    path = environment.get("PATH")
    compiler = environment.get("CC") or shutil.which("gcc", path=path) or shutil.which("clang", path=path)
    missing = [] if compiler else ["a C compiler (gcc)"]
    searched = [include]
    for name in ("CPATH", "C_INCLUDE_PATH"):
        searched += [Path(part) for part in environment.get(name, "").split(os.pathsep) if part]
    if not any((folder / "Python.h").is_file() for folder in searched):
        missing.append(f"the headers of Python ({include / 'Python.h'}; Debian's package is python3-dev)")
    said = (
        f"missing: {' and '.join(missing)}. Engines and training compile for the card"
        if missing
        else str(compiler)
    )
    return Check("compiler", not missing, said)


def _include_directory() -> str:
    scheme = sysconfig.get_default_scheme()
    # As Triton does: Debian's own scheme names a directory that has no headers.
    return sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"]


def _disk(paths: DataPaths) -> Check:
    folder = paths.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GB
    return Check(
        "disk for caches",
        free >= MIN_CACHE_GB,
        f"{free:.0f} GB free at {folder} ({MIN_CACHE_GB} GB are needed)",
    )


def _training_device(device: str, cards: Sequence[Card]) -> Check:
    try:
        chosen = choose_cards(device, cards)
    except UnknownDevice as error:
        return Check("training device", False, str(error))
    on = "card " + ", ".join(str(card.index) for card in chosen) if chosen else "the processor"
    return Check("training device", True, f"a run would take {on} now (training.device is {device})")


def _memory(settings: Settings, paths: DataPaths, read: Callable[[], list[Card]]) -> list[Check]:
    return asyncio.run(_place_all(settings, paths, Cards(read)))


async def _place_all(settings: Settings, paths: DataPaths, cards: Cards) -> list[Check]:
    """Place every engine as a start would, one after the other."""
    checks = []
    for spec in engine_specs(settings.engines, paths):
        if spec.url or spec.on_cpu:
            continue
        what = f"memory of engine {spec.name}"
        try:
            placed = await cards.place(spec)
        except EngineFailed as error:
            checks.append(Check(what, False, error.message))
            continue
        on = ", ".join(f"card {card.index}" for card in placed.cards)
        part = placed.need.explain() if placed.need else f"{placed.taken / GB:.1f} GB"
        checks.append(Check(what, True, f"{part}, on {on}"))
    return checks
