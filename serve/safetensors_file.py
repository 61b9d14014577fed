"""safetensors files, read without torch: the header, and whether every value of a tensor is finite.

The safetensors library validates the header (lengths, offsets, overlaps); the values are looked at as bit
patterns, since numpy has no bfloat16.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from serve.errors import AdapterRefused

# dtype -> (unsigned integer of the same width, bits of the exponent): all exponent bits set means inf or NaN.
FLOATS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
CHUNK = 4 * 2**20  # values looked at in one step


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: `dtype` (a key of `FLOATS`), `shape`, and `start` to `end` in bytes of the
    file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Return each tensor's place; raises `AdapterRefused` for a damaged file or a dtype that is no float."""
    try:
        with safe_open(str(path), framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise AdapterRefused(f"{path.name} is damaged: {error}") from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    found = {}
    for name, value in header.items():
        if value["dtype"] not in FLOATS:
            raise AdapterRefused(
                f"{path.name}: tensor {name} is of type {value['dtype']}; accepted: {', '.join(FLOATS)}"
            )
        start, end = value["data_offsets"]
        found[name] = TensorInfo(value["dtype"], tuple(value["shape"]), 8 + length + start, 8 + length + end)
    return found


def finite(path: Path, info: TensorInfo) -> bool:
    """Tell whether every value of a tensor is finite. Blocking; reads in steps of a few megabytes."""
    integer, exponent = FLOATS[info.dtype]
    width = np.dtype(integer).itemsize
    count = (info.end - info.start) // width
    if not count:
        return True
    bits: Any = np.memmap(path, dtype=integer, mode="r", offset=info.start, shape=(count,))
    return not any(
        bool(((bits[begin : begin + CHUNK] & exponent) == exponent).any()) for begin in range(0, count, CHUNK)
    )
