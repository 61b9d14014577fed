"""The files of an adapter that are read: its settings, its weights, its chat template. What lies beside them is left alone.

Some trainers save the adapter's own name in the names of the tensors (`lora_A.mine.weight`), which neither PEFT nor vLLM
reads back; `stage` copies the files with the names that both read.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

from serve.errors import AdapterRefused
from serve.safetensors_file import METADATA, parse_header

CONFIG, WEIGHTS, TEMPLATE = "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"
FILES = (CONFIG, WEIGHTS, TEMPLATE)
PICKLES = ("adapter_model.bin", "adapter_model.pt")
_NAMED = re.compile(r"(?P<before>.+\.lora_[AB])\.(?P<adapter>[^.]+)\.weight")


def check_files(directory: Path) -> None:
    """Raise `AdapterRefused` unless the directory holds settings and weights of its own."""
    if not directory.is_dir():
        raise AdapterRefused(f"{directory} is not a directory")
    for name in FILES:
        if (directory / name).is_symlink() and not _is_own(directory, directory / name):
            raise AdapterRefused(f"{name} is a link to a path outside the adapter directory")
    for name in (CONFIG, WEIGHTS):
        if (directory / name).is_file():
            continue
        pickle = next((other for other in PICKLES if (directory / other).is_file()), None)
        if name == WEIGHTS and pickle:
            raise AdapterRefused(
                f"{pickle} is a pickle file, which can run code when it is read; accepted: {WEIGHTS} "
                "(PEFT writes it with save_pretrained)"
            )
        raise AdapterRefused(f"{name} is missing; a PEFT LoRA directory holds {CONFIG} and {WEIGHTS}")


def _is_own(directory: Path, link: Path) -> bool:
    """Return whether a link stays inside the directory or the Hugging Face cache, whose snapshots link to its blobs."""
    target, root = link.resolve(), directory.resolve()
    if target.is_relative_to(root):
        return True
    return root.parent.name == "snapshots" and target.is_relative_to(root.parent.parent / "blobs")


def needs_staging(directory: Path) -> bool:
    """Tell whether tensors carry the name of the adapter."""
    path = directory / WEIGHTS
    return path.is_file() and _header(path)[0] != _renamed(_header(path)[0])


def stage(source: Path, target: Path) -> Path:
    """Copy the files of the adapter `source` to the new directory `target`, with tensor names that PEFT reads.

    Blocking. Raises `AdapterRefused` for files that are missing or of which a part is.
    """
    check_files(source)
    target.mkdir(parents=True)
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    header, start = _header(target / WEIGHTS)
    renamed = _renamed(header)
    if renamed != header:
        (target / WEIGHTS).unlink()
        text = json.dumps(renamed, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with (source / WEIGHTS).open("rb") as old, (target / WEIGHTS).open("wb") as new:
            new.write(struct.pack("<Q", len(text)) + text)
            old.seek(start)
            shutil.copyfileobj(old, new, 2**20)
    return target


def _renamed(header: dict[str, Any]) -> dict[str, Any]:
    """Leave out the adapter's name where all tensors carry the same."""
    matches = {name: _NAMED.fullmatch(name) for name in header if name != METADATA}
    names = {match["adapter"] if match else None for match in matches.values()}
    if len(names) != 1 or None in names:
        return header
    renamed = {
        f"{match['before']}.weight" if (match := matches.get(name)) else name: facts
        for name, facts in header.items()
    }
    return renamed if len(renamed) == len(header) else header


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return a safetensors header, empty when it can't be read, and where the values start."""
    try:
        return parse_header(path)
    except ValueError:
        return {}, 0
