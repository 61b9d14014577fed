"""What is exported, and the job that the child process gets of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.prepare import MANIFEST
from trimtab.base_models.local import is_hub_id
from trimtab.config.paths import DataPaths
from trimtab.config.settings import Settings
from trimtab.exports.tools import TOOLS

DEFAULT_QUANTIZATION = "q8_0"


@dataclass(frozen=True)
class Exported:
    """What was asked: the release as the platform shows it, what it learned (counts), the form, and where to.

    `examples` is how many of them its system prompt quotes; `quantize` the type of GGUF, None where none was named.
    """

    release: Mapping[str, Any]
    learned: Mapping[str, int]
    form: str
    out: Path
    dtype: str = "auto"
    examples: int = 0
    quantize: str | None = None


def job_of(
    asked: Exported, settings: Settings, paths: DataPaths, model: Path, adapter: Path | None, scratch: Path
) -> dict[str, Any]:
    """Return the fields of `align.training.exports.job.ExportJob`."""
    release = asked.release
    card = paths.run(release["run"]) / "adapter" / "README.md" if release.get("run") else None
    return {
        "form": asked.form,
        "model": str(model),
        "adapter": str(adapter) if adapter else None,
        "out": str(scratch),
        "name": release["name"],
        "base": _public_name(settings, model, str(release["base"])),
        "dtype": asked.dtype,
        "system_prompt": release.get("system_prompt"),
        "sampling": dict(release.get("sampling") or {}),
        "learned": dict(asked.learned),
        "run_card": card.read_text() if card and card.is_file() else None,
        "origin": _origin(settings, model, str(release["base"])),
        "examples": asked.examples,
        "quantize": asked.quantize or DEFAULT_QUANTIZATION,
        "tools": str(TOOLS),
    }


def _public_name(settings: Settings, model: Path, base: str) -> str:
    """Return the hub id of a base where it has one, else its name here; no path of this machine."""
    if (model / MANIFEST).is_file():
        return str(json.loads((model / MANIFEST).read_text())["model"])
    named = (e.model for e in settings.engines.values() if e.base == base and e.model)
    return next((name for name in named if is_hub_id(name)), base)


def _origin(settings: Settings, model: Path, base: str) -> str | None:
    """Return which version of the base its files here are, in words, None where nothing says it."""
    if model.parent.name == "snapshots":  # of the Hugging Face cache, by commit
        return f"commit `{model.name}`"
    if (model / MANIFEST).is_file():
        facts = json.loads((model / MANIFEST).read_text())
        return f"made of `{facts['source']}`, SHA-256 `{facts['source_sha256']}`"
    revisions = (e.revision for e in settings.engines.values() if e.base == base and e.revision)
    return next((f"revision `{revision}`" for revision in revisions), None)
