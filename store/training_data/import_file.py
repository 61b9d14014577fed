"""Import a file of pairs, demonstrations or likes, in whatever format it is, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from store.db.database import Store
from store.db.record import Record
from store.errors import Invalid, Truncated
from store.training_data import demonstrations, likes, pairs
from store.training_data.import_result import ImportResult, RejectedRow
from store.transfer import formats, openwebui
from store.transfer.row_files import LOOKED_AT, RowFile, UnreadableCells

NOUNS = {
    "pairs": pairs.import_rows,
    "demonstrations": demonstrations.import_rows,
    "likes": likes.import_rows,
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is: bytes of the file and rows so far."""

    bytes_done: int
    bytes_total: int
    rows: int
    accepted: int
    duplicates: int
    rejected: int


@dataclass(frozen=True, slots=True)
class FileImport(Record):
    """What became of a file. `broke_off` says where it ends too early, `rejects` the file of refused rows; or None."""

    result: ImportResult
    format: str
    container: str
    compression: str | None
    broke_off: str | None
    rejects: str | None


def import_file(
    db: Store,
    path: str | Path,
    noun: str = "pairs",
    format: str | None = None,
    imported_by: str | None = None,
    deployment: str | None = None,
    dry_run: bool = False,
    rejects: str | Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    source: str | None = None,
) -> FileImport:
    """Import `path` as `noun` ("pairs", "demonstrations" or "likes").

    Container (JSONL, JSON array, CSV, Parquet), compression and, without `format`, the format
    (store.transfer.formats) are detected from
    the content. Refused rows go with number and reason to the JSONL file `rejects` when it is given, and never stop
    the others; a file that breaks off gives its whole rows and says where. The same file twice adds nothing. `source`
    names the origin (default: the file's name). `on_progress` is called after each batch and some times a second, and may
    raise to stop there; the batches before stay. Raises `NotFound` and `Invalid`.
    """
    if noun not in NOUNS:
        raise Invalid("noun", noun, NOUNS)
    known = formats.FORMATS[noun]
    if format is not None and format not in known:
        raise Invalid("format", format, known)
    with ExitStack() as stack:
        file = stack.enter_context(RowFile(path))
        rows = _Rows(file)
        if format is None:
            format = _detect(noun, rows)
        out = _Rejects(Path(rejects)) if rejects else None
        if out:
            stack.callback(out.close)

        def batch(seen: int, accepted: int, duplicates: int, refused: int) -> None:
            if on_progress:
                on_progress(Progress(file.position(), file.size, seen, accepted, duplicates, refused))

        result = NOUNS[noun](
            db,
            rows,
            source or Path(path).name,
            imported_by,
            deployment,
            on_batch=batch,
            on_rejected=out.write if out else None,
            convert=_converter(noun, format, file),
            dry_run=dry_run,
        )
        return FileImport(
            result=result,
            format=format,
            container=file.container,
            compression=file.compression,
            broke_off=str(rows.broke_off) if rows.broke_off else None,
            rejects=str(out.path) if out and out.written else None,
        )


def _converter(noun: str, format: str, file: RowFile) -> Any:
    """Return what makes our columns of a row, or of some formats several rows."""
    if (noun, format) != ("pairs", "openwebui"):
        return formats.FORMATS[noun][format]
    with RowFile(file.path, file.container) as again, suppress(Truncated):  # two answers may both be liked
        return partial(openwebui.all_pairs, ratings=openwebui.all_ratings(again.rows()))
    return openwebui.all_pairs


class _Rows:
    """The rows of a file; remembers instead of raising where it breaks off."""

    def __init__(self, file: RowFile) -> None:
        self._rows: Iterator[object] = file.rows()
        self.broke_off: Truncated | None = None

    def put_back(self, rows: list[object]) -> None:
        self._rows = chain(rows, self._rows)

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> object:
        try:
            return next(self._rows)
        except Truncated as broke_off:
            self.broke_off = broke_off
            raise StopIteration from None


class _Rejects:
    """A JSONL file of refused rows, made when there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        self._file: IO[str] | None = None

    def write(self, rejected: RejectedRow, row: object) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
        line = {"row": rejected.row, "why": rejected.why, "data": row}
        self._file.write(json.dumps(line, default=str) + "\n")
        self.written += 1

    def close(self) -> None:
        if self._file:
            self._file.close()


def _detect(noun: str, rows: _Rows) -> str:
    """Tell the format from the first row that says it; what comes before is refused by number when it is imported."""
    seen: list[object] = []
    unknown: Invalid | None = None
    bad: Invalid | None = None
    try:
        for row in islice(rows, LOOKED_AT):
            seen.append(row)
            row = row.row if isinstance(row, UnreadableCells) else row
            if isinstance(row, Mapping):
                try:
                    return formats.detect(noun, row)
                except Invalid as error:
                    unknown = unknown or error
            else:
                bad = bad or (row if isinstance(row, Invalid) else Invalid("row", row, "an object"))
    finally:
        rows.put_back(seen)
    if unknown or bad:
        raise unknown or bad  # type: ignore[misc]
    if rows.broke_off:
        raise Invalid("file", str(rows.broke_off), "a file with at least one whole row, or name its format")
    raise Invalid("file", "no rows", "a file with at least one row, or name its format")
