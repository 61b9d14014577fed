"""safetensors files, read without torch: the header, and whether values of a tensor are finite or other than zero.

The safetensors library validates the header (lengths, offsets, overlaps); the values are looked at as bit
patterns, since numpy has no bfloat16.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from serve.errors import AdapterRefused

# dtype -> (unsigned integer of the same width, bits of the exponent): all exponent bits set means inf or NaN.
FLOATS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
METADATA = "__metadata__"
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
CHUNK = 4 * 2**20  # values looked at in one step


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: `dtype` (a key of `FLOATS`), `shape`, and `start` to `end` in bytes of the
    file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def parse_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header as it stands, with its `__metadata__`, and at which byte the values begin.

    Raises `OSError`, or `ValueError` for a file that is cut short or no safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, MAX_HEADER_BYTES)))
    if not isinstance(header, dict):
        raise ValueError(f"the header of {path.name} is no JSON object")
    return header, 8 + length


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Return each tensor's place; raises `AdapterRefused` for a damaged file or a dtype that is no float."""
    try:
        with safe_open(str(path), framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise AdapterRefused(f"{path.name} is damaged: {error}") from error
    header, begin = parse_header(path)
    header.pop(METADATA, None)
    found = {}
    for name, value in header.items():
        if value["dtype"] not in FLOATS:
            raise AdapterRefused(
                f"{path.name}: tensor {name} is of type {value['dtype']}; accepted: {', '.join(FLOATS)}"
            )
        start, end = value["data_offsets"]
        found[name] = TensorInfo(value["dtype"], tuple(value["shape"]), begin + start, begin + end)
    return found


def finite(path: Path, info: TensorInfo) -> bool:
    """Tell whether every value of a tensor is finite. Blocking; reads in steps of a few megabytes."""
    exponent = FLOATS[info.dtype][1]
    return not any(bool(((bits & exponent) == exponent).any()) for bits in _chunks(path, info))


def has_values(path: Path, info: TensorInfo) -> bool:
    """Tell whether any value of a tensor is other than zero (of either sign). Blocking, as `finite`."""
    width = np.dtype(FLOATS[info.dtype][0]).itemsize * 8
    return any(bool((bits & (2 ** (width - 1) - 1)).any()) for bits in _chunks(path, info))


def _chunks(path: Path, info: TensorInfo) -> Iterator[Any]:
    """Yield the bits of a tensor's values, some megabytes at a time."""
    integer = FLOATS[info.dtype][0]
    count = (info.end - info.start) // np.dtype(integer).itemsize
    if not count:
        return
    bits: Any = np.memmap(path, dtype=integer, mode="r", offset=info.start, shape=(count,))
    for begin in range(0, count, CHUNK):
        yield bits[begin : begin + CHUNK]
