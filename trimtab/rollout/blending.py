"""Several adapters of one base made into one: combined by PEFT in a worker, then published as any adapter is."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.engine.process import GuardedProcess, ProcessOptions
from serve.errors import AdapterRefused
from store.rollout.adapters import AdapterRecord
from trimtab.serving import Serving


@dataclass(frozen=True, slots=True)
class Combination:
    """How adapters are combined, as `align.blend` takes it; None leaves a choice to it."""

    kind: str
    rank: int | None = None
    density: float | None = None
    seed: int = 0

    def arguments(self) -> list[str]:
        """Return the arguments of the worker."""
        words = ["--combination", self.kind, "--seed", str(self.seed)]
        if self.rank is not None:
            words += ["--rank", str(self.rank)]
        if self.density is not None:
            words += ["--density", repr(self.density)]
        return words


async def blend(
    serving: Serving,
    base: str,
    parts: Sequence[tuple[str, float]],
    combination: Combination,
    created_by: str,
) -> tuple[AdapterRecord, dict[str, Any]]:
    """Combine adapters, by id with their weights, and publish the result: checked, measured, on every engine.

    Returns what the store is to keep, and what the worker says: `rank`, `combination`, `distance`. Raises AdapterRefused.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out, logfile = Path(scratch) / "adapter", Path(scratch) / "blend.log"
        argv = [sys.executable, "-m", "align.blend", "--model", str(serving.model_path(base))]
        for name, weight in parts:
            argv += ["--adapter", f"{serving.paths.adapters / name}:{weight!r}"]
        argv += ["--out", str(out), *combination.arguments()]
        process = await GuardedProcess.start(argv, ProcessOptions(log=logfile))
        try:
            status = await process.wait()
        finally:
            await process.stop(0)
        lines = (await asyncio.to_thread(logfile.read_text)).strip().splitlines()
        if status != 0:
            raise AdapterRefused(
                f"the adapters cannot be combined: {lines[-1] if lines else 'no reason given'}"
            )
        record = await serving.publish_directory(out, base, created_by)
    return record, dict(json.loads(lines[-1]))
