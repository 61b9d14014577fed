"""Rows out of files: JSONL, JSON arrays, CSV and Parquet, plain, gzip or zstd; detected from content, read as a stream.

A file that breaks off yields every whole row before the break and then raises `Truncated`, which says where.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from store.errors import Invalid, NotFound, Truncated
from store.transfer import csv_rows, decompression, json_rows
from store.transfer.decompression import BreaksOff

CONTAINERS = ("jsonl", "json", "csv", "parquet")
LOOKED_AT = 100
"""Rows from which the kind of a file is detected: the first ones may be bad."""

_PARQUET = b"PAR1"
# text that is not UTF-8, a time out of range, a type without a form in Python
_CELL_ERRORS = (pa.ArrowException, ValueError, OverflowError, TypeError, NotImplementedError)
_HEAD = 2**20  # bytes from which the container is detected


def file_in(path: Path) -> Path:
    """Return the Parquet file of a dataset's directory, as an export leaves it, and any other path as it is.

    Raises `Invalid` for a directory with none or several.
    """
    if not path.is_dir():
        return path
    found = sorted(part for level in ("*", "*/*") for part in path.glob(f"{level}.parquet") if part.is_file())
    if len(found) != 1:
        names = [str(part.relative_to(path)) for part in found[:5]]
        raise Invalid(
            "file", names or str(path), "a file of rows, or a directory with one Parquet file in it"
        )
    return found[0]


class RowFile:
    """A file of rows, opened to be read once: `container`, `compression`, `size` in bytes, and `rows()`."""

    def __init__(self, path: str | Path, container: str | None = None) -> None:
        """Open `path` and tell what it is. Raises `NotFound`, and `Invalid` for what is no file of rows."""
        self.path = file_in(Path(path))
        if not self.path.is_file():
            raise NotFound("file", str(path))
        if container is not None and container not in CONTAINERS:
            raise Invalid("container", container, CONTAINERS)
        self.size = self.path.stat().st_size
        with self.path.open("rb") as file:
            self.compression = decompression.compression(file.read(4))
        self.container = container or _tell(self._head())
        self._raw = self.path.open("rb")
        self._part_done = 0.0  # of Parquet, which is not read from start to end

    def position(self) -> int:
        """Return how many bytes of the file have been read, for a progress bar."""
        if self.container == "parquet":
            return round(self._part_done * self.size)
        return self._raw.tell() if not self._raw.closed else self.size

    def rows(self) -> Iterator[object]:
        """Yield the rows as JSON values; what cannot be read as one comes as the `Invalid` that says why."""
        readers: dict[str, Callable[[], Iterator[object]]] = {
            "jsonl": lambda: json_rows.lines(decompression.text(self._chunks())),
            "json": lambda: json_rows.elements(decompression.text(self._chunks())),
            "csv": lambda: csv_rows.rows(decompression.text(self._chunks())),
            "parquet": self._parquet,
        }
        count = 0
        try:
            for row in readers[self.container]():
                count += 1
                yield row
        except BreaksOff as error:
            raise Truncated(count, str(error)) from error

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _chunks(self) -> Iterator[bytes]:
        return decompression.chunks(self._raw, self.compression)

    def _head(self) -> bytes:
        """Return how the unpacked file begins, as UTF-8 where it is text; less where it breaks off."""
        head = b""
        with self.path.open("rb") as file, suppress(BreaksOff):
            if file.read(4) == _PARQUET:
                return _PARQUET
            file.seek(0)
            stream = decompression.text(decompression.chunks(file, self.compression))
            while len(head) < _HEAD and (more := stream.read1(_HEAD)):
                head += more
        return head

    def _parquet(self) -> Iterator[object]:
        with tempfile.TemporaryFile() as unpacked:
            source: str | IO[bytes] = str(self.path)
            if self.compression is not None:  # its index is at the end
                for chunk in self._chunks():
                    unpacked.write(chunk)
                source = unpacked
            try:
                file = pq.ParquetFile(source)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise BreaksOff(
                    f"Parquet keeps its index at the end, and it cannot be read: {error}"
                ) from error
            rows = max(file.metadata.num_rows, 1)
            done = 0
            batches = file.iter_batches(batch_size=1000)
            while True:
                try:
                    batch = next(batches, None)
                except (pa.ArrowException, OSError, ValueError) as error:
                    raise BreaksOff(f"the Parquet data is damaged: {error}") from error
                if batch is None:
                    return
                done += len(batch)
                self._part_done = done / rows
                yield from _values(batch)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that Python has no form for, such as a date out of range; `why` says so."""

    why: str


class UnreadableCells(Invalid):
    """A row with cells that cannot be read, `row`, where these are `Unreadable`: who needs none of them may take it."""

    def __init__(self, row: dict[str, object]) -> None:
        why = next(cell.why for cell in row.values() if isinstance(cell, Unreadable))
        super().__init__("row", "…", f"values that can be read ({why})")
        self.row = row


def _values(batch: pa.RecordBatch) -> Iterator[object]:
    try:
        yield from batch.to_pylist()
    except _CELL_ERRORS:
        # Each column by itself, since a row may have no use for the one that cannot be read.
        columns = {name: list(_cells(batch.column(place))) for place, name in enumerate(batch.schema.names)}
        for place in range(len(batch)):
            row = {name: cells[place] for name, cells in columns.items()}
            whole = not any(isinstance(cell, Unreadable) for cell in row.values())
            yield row if whole else UnreadableCells(row)


def _cells(column: pa.Array) -> Iterator[object]:
    try:
        yield from column.to_pylist()
    except _CELL_ERRORS:
        for cell in column:
            try:
                yield cell.as_py()
            except _CELL_ERRORS as error:
                yield Unreadable(str(error))


def _tell(head: bytes) -> str:
    """Tell the container from how a file begins."""
    if head.startswith(_PARQUET):
        return "parquet"
    text = head.decode("utf-8", "replace").lstrip()
    if csv_rows.separator_line(text.split("\n", 1)[0]) is not None:
        return "csv"
    lines = [line for line in text.split("\n") if line.strip()][:LOOKED_AT]
    if not lines:
        return "jsonl"
    if text[0] == "[":
        return "jsonl" if len(lines) > 1 and _parsed(lines[0]) is not None else "json"
    if text[0] == "{":
        # One object over several lines begins a JSON document; a whole object on a line, or a bad line, begins JSONL.
        return "json" if lines[0].strip() == "{" or _spans_lines(text) else "jsonl"
    if any(line.lstrip()[:1] == "{" and _parsed(line) for line in lines):
        return "jsonl"
    if "\0" not in lines[0] and csv_rows.delimiter(lines[0]):
        return "csv"
    raise Invalid(
        "file",
        text[:40],
        "JSONL, a JSON array, CSV with a header, or Parquet; text in UTF-8, or in UTF-16 with a byte order mark",
    )


def _parsed(text: str) -> object:
    with suppress(Invalid):
        return json_rows.parse(text)
    return None


def _spans_lines(text: str) -> bool:
    with suppress(ValueError, RecursionError):
        _, end = json.JSONDecoder().raw_decode(text)
        return "\n" in text[:end]
    return False
