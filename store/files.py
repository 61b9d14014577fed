"""Rows out of files: JSONL, JSON arrays, CSV and Parquet, plain, gzip or zstd; told by content, read as a stream.

A file that breaks off yields every whole row before the break and then raises `Truncated`, which says where.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

import ijson
import pyarrow as pa
import pyarrow.parquet as pq

from store.errors import Invalid, NotFound, StoreError

CONTAINERS = ("jsonl", "json", "csv", "parquet")
_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"

csv.field_size_limit(2**31 - 1)


class Truncated(StoreError):
    """A file ends in the middle of a row: `after_row` whole rows came before; `where` is for people."""

    def __init__(self, after_row: int, where: str) -> None:
        self.after_row, self.where = after_row, where
        super().__init__(f"the file breaks off after row {after_row:,} ({where})")


class RowFile:
    """A file of rows, opened to be read once: `container`, `compression`, `size` in bytes, and `rows()`."""

    def __init__(self, path: str | Path, container: str | None = None) -> None:
        """Open `path` and tell what it is. Raises `NotFound`, and `Invalid` for what is no file of rows."""
        self.path = Path(path)
        if not self.path.is_file():
            raise NotFound("file", str(path))
        if container is not None and container not in CONTAINERS:
            raise Invalid("container", container, CONTAINERS)
        self.size = self.path.stat().st_size
        self._raw = self.path.open("rb")
        magic = self._raw.read(4)
        self._raw.seek(0)
        self.compression = "gzip" if magic[:2] == _GZIP else "zstd" if magic == _ZSTD else None
        self._stream = io.BufferedReader(cast(io.RawIOBase, _Unpacked(self._raw, self.compression)), 2**20)
        self.container = container or ("parquet" if magic == _PARQUET else self._tell())

    def position(self) -> int:
        """Return how many bytes of the file have been read, for a progress bar."""
        return self._raw.tell() if not self._raw.closed else self.size

    def rows(self) -> Iterator[object]:
        """Yield the rows as JSON values. A line that is not JSON comes as its text, to be refused by number."""
        readers: dict[str, Callable[[], Iterator[object]]] = {
            "jsonl": self._jsonl,
            "json": self._json,
            "csv": self._csv,
            "parquet": self._parquet,
        }
        return readers[self.container]()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self) -> str:
        start = self._stream.peek(65536)[:65536].lstrip(b"\xef\xbb\xbf \t\r\n")
        if start[:1] == b"[":
            return "json"
        if start[:1] == b"{":
            first = start.split(b"\n", 1)[0].strip()
            # One object over several lines is a JSON document of one row; a whole object on a line begins JSONL.
            return "json" if first == b"{" else "jsonl"
        if b"," in start.split(b"\n", 1)[0]:
            return "csv"
        raise Invalid(
            "file",
            start[:40].decode("utf-8", "replace"),
            "JSONL, a JSON array, CSV with a header, or Parquet",
        )

    def _jsonl(self) -> Iterator[object]:
        count, pending = 0, None
        try:
            for line in self._stream:
                if pending is not None:
                    count += 1
                    yield pending
                    pending = None
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except ValueError:
                    pending = line.decode("utf-8", "replace")
                    if not line.endswith(b"\n"):
                        raise Truncated(count, "the last line is not whole") from None
                    continue
                count += 1
                yield value
        except (EOFError, OSError, zlib.error) as error:
            raise Truncated(count, f"the {self.compression} data ends early") from error
        if pending is not None:
            yield pending

    def _json(self) -> Iterator[object]:
        count = 0
        many = self._stream.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
        try:
            for item in ijson.items(self._stream, "item" if many else "", use_float=True):
                count += 1
                yield item
        except ijson.IncompleteJSONError as error:
            raise Truncated(count, "the JSON array is not closed") from error
        except ijson.JSONError as error:
            raise Truncated(count, f"what follows is not JSON: {error}") from error
        except (EOFError, OSError, zlib.error) as error:
            raise Truncated(count, f"the {self.compression} data ends early") from error

    def _csv(self) -> Iterator[object]:
        count = 0
        text = io.TextIOWrapper(self._stream, "utf-8-sig", errors="replace", newline="")
        try:
            reader = csv.DictReader(text, strict=True)
            for row in reader:
                count += 1
                if None in row:
                    yield "a row with more cells than the header: " + str(row[None])
                else:
                    yield {key: _cell(key, value) for key, value in row.items() if value not in (None, "")}
        except csv.Error as error:
            raise Truncated(count, f"a quoted cell is not closed: {error}") from error
        except (EOFError, OSError, zlib.error) as error:
            raise Truncated(count, f"the {self.compression} data ends early") from error
        finally:
            text.detach()

    def _parquet(self) -> Iterator[object]:
        try:
            file = pq.ParquetFile(self.path)
        except (pa.ArrowInvalid, OSError) as error:
            raise Truncated(
                0, f"Parquet keeps its index at the end, and it can not be read: {error}"
            ) from error
        for batch in file.iter_batches(batch_size=1000):
            yield from batch.to_pylist()


class _Unpacked:
    """A raw byte stream out of a plain, gzip or zstd file; gives all there is before it raises for a cut-off end."""

    def __init__(self, raw: IO[bytes], compression: str | None) -> None:
        self._raw = raw
        self._gzip = zlib.decompressobj(31) if compression == "gzip" else None
        self._zstd = (
            pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd") if compression == "zstd" else None
        )
        self.closed = False

    def _read(self, size: int) -> bytes:
        if self._zstd is not None:
            return bytes(self._zstd.read(min(size, 65536)))
        if self._gzip is None:
            return self._raw.read(size)
        while True:
            packed = self._gzip.unconsumed_tail or self._gzip.unused_data or self._raw.read(65536)
            if self._gzip.eof and packed:
                self._gzip = zlib.decompressobj(31)  # gzip files may be several, one after the other
            if not packed:
                if not self._gzip.eof:
                    raise EOFError("the compressed data ends early")
                return b""
            if data := self._gzip.decompress(packed, size):
                return data

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def readinto(self, buffer: bytearray) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.closed = True

    def flush(self) -> None:
        pass


def _cell(column: str, value: str) -> object:
    """Read a cell: a number in `weight`, a JSON list of messages or tags where it holds one, else its text."""
    try:
        if column == "weight":
            return float(value)
        if value.startswith('[{"role"') or (column == "tags" and value.startswith("[")):
            return json.loads(value)
    except ValueError:
        return value
    return value
