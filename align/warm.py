"""A worker that does its imports before there is a run: they take longer than a short run's training.

It holds no model and no data, and touches no GPU that the imports themselves don't touch.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

IMPORTS = (
    "align.allocator",
    "align.card",
    "align.data",
    "align.dpo",
    "align.fused",
    "align.kto",
    "align.model",
    "align.packed_model",
    "align.probe",
    "align.session",
    "align.sft",
    "bitsandbytes",
    "transformers.models.llama.modeling_llama",
)
"""What a run imports between its beginning and its end, whatever its method; a model of another family than Llama's
imports its own."""


def wait_for_run() -> Path | None:
    """Import everything, then return the run directory that standard input names; None when it ends without one."""
    for name in IMPORTS:
        importlib.import_module(name)
    line = sys.stdin.readline().rstrip("\n")
    return Path(line) if line else None
