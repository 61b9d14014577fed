"""The local directory of a base model: the one place that turns a hub id into a path.

Serving, planning, training, the probe and the checks of adapters all read `config.json`, `tokenizer.json` and the headers
of the weights from this directory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from serve.engine.spec import EngineSpec
from trimtab.config.paths import DataPaths
from trimtab.config.serving_sections import EngineSettings

INDEX = "model.safetensors.index.json"
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md")
"""Files of a repository that serving or training reads."""
EXCLUDED = ("*/*", "consolidated*")
"""Files that are not downloaded: other formats in subfolders, and the same weights under Mistral's own names."""


def model_of(engines: Mapping[str, EngineSettings], paths: DataPaths, base: str) -> Path:
    """Return the directory of a base model; a hub id that is not downloaded yet comes back as it is."""
    for engine in engines.values():
        if engine.base == base and engine.model:
            return resolve(engine.model, engine.revision)
    return paths.model(base).absolute()


def engine_specs(engines: Mapping[str, EngineSettings], paths: DataPaths) -> list[EngineSpec]:
    """Return one specification per engine process."""
    return [
        spec
        for name, engine in engines.items()
        for spec in engine.specs(name, str(model_of(engines, paths, engine.base)))
    ]


def resolve(model: str, revision: str | None = None) -> Path:
    """Return the local directory of a directory or hub id; a hub id that is not downloaded comes back as it is."""
    path = Path(model).expanduser()
    if path.is_dir() or not is_hub_id(model):
        return path
    return snapshot(model, revision) or Path(model)


def is_hub_id(model: str) -> bool:
    """Return whether a setting `model` names a repository of the hub: `name` or `organisation/name`, no path here."""
    path = Path(model).expanduser()
    return not (path.is_absolute() or path.exists() or model.startswith((".", "~"))) and model.count("/") <= 1


def snapshot(repository: str, revision: str | None = None) -> Path | None:
    """Return the directory in the Hugging Face cache that holds a revision of a hub id, None unless it is whole."""
    from huggingface_hub import snapshot_download  # half a second; a directory needs none of it
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repository,
            revision=revision,
            local_files_only=True,
            allow_patterns=list(PATTERNS),
            ignore_patterns=list(EXCLUDED),
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Path(found) if is_whole(Path(found)) else None


def is_whole(directory: Path) -> bool:
    """Return whether a directory holds `config.json` and every safetensors file of its index."""
    if not (directory / "config.json").is_file():
        return False
    index = directory / INDEX
    if not index.is_file():
        return any(file.is_file() for file in directory.glob("*.safetensors"))
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return all((directory / file).is_file() for file in files)
