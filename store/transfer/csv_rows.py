"""Rows out of CSV with a header. A row that is not well quoted comes as `Invalid`, and the next is read."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from store.errors import Invalid
from store.transfer.decompression import BreaksOff
from store.transfer.json_rows import MAX_ROW, parse

DELIMITERS = (",", ";", "\t")
_UNCLOSED = "unexpected end of data"  # what the module says at the end of the file
_SEP = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*+"?')

csv.field_size_limit(MAX_ROW)


def separator_line(line: str) -> str | None:
    """Return the separator that a line names, as spreadsheets write it before the header ("sep=;"), else None."""
    match = _SEP.fullmatch(line)
    return match[1] if match and match[1] not in "\"'" else None


def delimiter(header: str) -> str | None:
    """Tell what separates the columns of a header line, None where nothing does: the most frequent, outside of quotes."""
    if (said := separator_line(header)) is not None:
        return said
    bare = _QUOTED.sub("", header)
    most = max(DELIMITERS, key=bare.count)
    return most if most in bare else None


def rows(stream: io.BufferedReader) -> Iterator[object]:
    """Yield each row as an object by column, without empty cells.

    `weight` is a number and a JSON list of tags a list, where the cell holds one. Raises `Invalid` for a
    header that cannot be read, and `BreaksOff` where the last row is not whole.
    """
    records = _records(_Lines(stream))
    header = next(records, [])
    if isinstance(header, Invalid):
        raise Invalid("header", header.value, header.accepted)
    columns = [name.strip() for name in header]
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise Invalid("header", twice, "each column once")
    for cells in records:
        if isinstance(cells, Invalid):
            yield cells
        elif len(cells) > len(columns):
            yield Invalid("row", cells, f"{len(columns)} cells, as in the header")
        else:
            yield {name: _cell(name, cell) for name, cell in zip(columns, cells, strict=False) if cell != ""}


class _Endless(Exception):
    """A row goes on for longer than it may."""


class _Lines:
    """The lines of a stream with their ends, at most `MAX_ROW` long; `taken` are those of the row that is being read."""

    def __init__(self, stream: io.BufferedReader) -> None:
        # Bytes that are not UTF-8 become lone surrogates, which no value of the store accepts.
        self._text = io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="")
        self._back: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        length = 0
        while line := self._back.popleft() if self._back else self._text.readline(MAX_ROW):
            if len(line) == MAX_ROW and not line.endswith(("\n", "\r")):
                while (rest := self._text.readline(MAX_ROW)) and not rest.endswith(("\n", "\r")):
                    pass
                line += "\n"
            length = length + len(line) if self.taken else len(line)
            self.taken.append(line)
            if length > MAX_ROW:
                raise _Endless
            yield line

    def first(self) -> str:
        """Return the first line that is not blank, which stays."""
        while (line := self._back.popleft() if self._back else self._text.readline(MAX_ROW)).isspace():
            pass
        self.put_back([line])
        return line

    def drop(self) -> None:
        """Take the line away that `first` returned."""
        self._back.popleft()

    def put_back(self, lines: list[str]) -> None:
        self._back.extendleft(reversed(lines))


def _records(lines: _Lines) -> Iterator[list[str] | Invalid]:
    """Yield the cells of each row, the header's first. Of what is not CSV a line is refused, and the next tried."""
    separator = separator_line(lines.first())
    if separator is not None:
        lines.drop()
    else:
        separator = delimiter(lines.first()) or ","
    width = 0
    reader = csv.reader(iter(lines), delimiter=separator, strict=True)
    while True:
        try:
            for cells in reader:
                lines.taken.clear()
                if cells:
                    width = width or len(cells)
                    yield cells
            return
        except (csv.Error, _Endless) as error:
            line, *more = lines.taken
            lines.taken.clear()
            ended = str(error) == _UNCLOSED
            if ended and not _fit(more, separator, width):
                raise BreaksOff("a quoted cell is not closed") from None
            why = "a quoted cell is not closed" if more or ended else str(error)
            if isinstance(error, csv.Error) and not ended and more and _closes(more[-1], separator):
                line, more, why = "".join([line, *more]), [], str(error)
            lines.put_back(more)
            if isinstance(error, _Endless):
                why = f"no end in {MAX_ROW // 2**20} MiB"
            yield Invalid("row", line, f"a row of CSV ({why})")
            reader = csv.reader(iter(lines), delimiter=separator, strict=True)


def _closes(line: str, separator: str) -> bool:
    """Tell whether the first quote of a line closes a cell that began before it, and does not open one."""
    before = line[: line.find('"')]
    return before != "" and not before.endswith(separator)


def _fit(lines: list[str], separator: str, width: int) -> bool:
    """Tell whether most lines are rows of `width` cells by themselves, and not parts of a cell."""
    rows = 0
    for line in lines:
        with suppress(csv.Error):
            rows += len(next(csv.reader([line], delimiter=separator, strict=True))) == width
    return 2 * rows > len(lines)


def _cell(column: str, value: str) -> object:
    """Read a cell: a number in `weight`, a JSON list in `tags` where it holds one, else its text."""
    with suppress(ValueError, Invalid):
        if column.lower() == "weight":
            return float(value)
        if column.lower() == "tags" and value.startswith("["):
            return parse(value)
    return value
