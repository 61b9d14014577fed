"""What a starting engine does now, read from its log, and how long that took at its last start on the same device."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

from common.files import write_atomic

STAGES: tuple[tuple[str, str], ...] = (
    ("importing vLLM", ""),
    ("loading weights", r"Starting to load model|Loading model from scratch|Loading weights took"),
    (
        "compiling",
        r"for vLLM's torch\.compile|Dynamo bytecode transform|Compiling a graph|Directly load the compiled",
    ),
    ("capturing CUDA graphs", r"Capturing CUDA graphs|Profiling CUDA graph memory"),
    ("opening its server", r"init engine \(profile"),
)
"""Stage and what vLLM logs when it begins, in order; an engine may skip some."""
KEPT = 5
"""Starts of an engine on a device that are kept."""
_WRITING = threading.Lock()  # engines that start together share the file


class StartStages:
    """The stages of one start. `history` is a file of earlier durations, which may be missing or damaged."""

    def __init__(self, history: Path, engine: str, device: str) -> None:
        self._history, self._key = history, f"{engine} on {device}"
        self._began = self._stage_began = time.monotonic()
        self._stage = 0
        self._seconds: dict[str, float] = {}
        earlier = _read(history).get(self._key)
        self._last: dict[str, Any] = earlier[-1] if earlier else {}

    def read(self, log: str) -> None:
        """Advance to the last stage that the log of this start names."""
        for index in range(len(STAGES) - 1, self._stage, -1):
            if re.search(STAGES[index][1], log):
                self._end_stage()
                self._stage = index
                return

    @property
    def has_begun_work(self) -> bool:
        """Whether a process of the engine has got beyond its imports."""
        return self._stage > 0

    def say(self) -> str:
        """Return the stage and its time so far, and those of the last start."""
        now, name = time.monotonic(), STAGES[self._stage][0]
        whole = self._last.get("seconds")
        stage = self._last.get("stages", {}).get(name)
        said = f"{name} for {now - self._stage_began:.0f} s" + (
            f" (last time {stage:.0f} s)" if stage else ""
        )
        said += f", {now - self._began:.0f} s in all"
        if whole:
            return f"{said} (last time {whole:.0f} s)"
        return f"{said}; no earlier start of this engine on this device is known"

    def finish(self) -> None:
        """Record the durations of a start that ended with a serving engine. Blocking."""
        self._end_stage()
        row = {"seconds": round(time.monotonic() - self._began, 1), "stages": self._seconds}
        with _WRITING:
            known = _read(self._history)
            known[self._key] = [*known.get(self._key, []), row][-KEPT:]
            self._history.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._history, json.dumps(known, indent=1))

    def _end_stage(self) -> None:
        now = time.monotonic()
        self._seconds[STAGES[self._stage][0]] = round(now - self._stage_began, 1)
        self._stage_began = now


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the known starts; those that are no starts are left out."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        key: good
        for key, rows in found.items()
        if isinstance(rows, list) and (good := [row for row in rows if _is_start(row)])
    }


def _is_start(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("seconds"), int | float):
        return False
    stages = row.get("stages")
    return isinstance(stages, dict) and all(isinstance(value, int | float) for value in stages.values())
