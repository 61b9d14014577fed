"""The lines of a file in OpenAI's fine-tuning form: which kind they are, and what is wrong with the first bad one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from store.errors import Invalid
from store.import_notes import collect
from store.training_data import demonstrations, pairs
from store.training_data.batch_import import read_row
from store.training_data.import_sink import Kind
from store.transfer import formats, json_rows

FileKind = Literal["supervised", "dpo"]
TABLES: dict[FileKind, str] = {"supervised": "demonstrations", "dpo": "pairs"}
"""Where the rows of a kind are stored."""
CONVERT: dict[FileKind, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    kind: formats.FORMATS[table]["openai"] for kind, table in TABLES.items()
}
"""How the rows of a kind are read."""

_READ: dict[FileKind, Kind[Any]] = {"supervised": demonstrations.KIND, "dpo": pairs.KIND}
_COLUMNS: dict[FileKind, tuple[str, ...]] = {
    "supervised": ("messages",),
    "dpo": ("input", "preferred_output", "non_preferred_output"),
}
_NAMES = {"prompt": "input.messages", "chosen": "preferred_output", "rejected": "non_preferred_output"}
"""Names in OpenAI's rows of pairs of what the store calls otherwise."""


class BadLine(Invalid):
    """The line `line` of a file is refused: `field` of its row is at fault."""

    def __init__(self, line: int, field: str, value: object, accepted: str) -> None:
        super().__init__(field, value, accepted)
        self.line = line

    def __str__(self) -> str:
        return f"line {self.line}: {super().__str__()}"


def rows(path: Path) -> Iterator[tuple[int, object]]:
    """Yield number and value of each line of a JSONL file that is not blank. Raises `BadLine`."""
    with path.open("rb") as file:
        for number, data in enumerate(iter(partial(file.readline, json_rows.MAX_ROW + 1), b""), 1):
            if len(data) > json_rows.MAX_ROW:
                raise BadLine(number, "row", "…", f"a row of at most {json_rows.MAX_ROW // 2**20} MiB")
            try:
                line = data.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if line:
                    yield number, json_rows.parse(line)
            except UnicodeDecodeError as error:
                raise BadLine(
                    number, "row", "…", f"text in UTF-8 (it is not at byte {error.start + 1})"
                ) from None
            except Invalid as error:
                raise _bad(number, error) from None


def check(path: Path) -> tuple[FileKind, int]:
    """Read a file to its end, and return its kind and how many rows it has.

    Raises `BadLine` for the first line that is not a row of the kind of the first, and `Invalid` for a file without rows.
    """
    kind: FileKind | None = None
    count = 0
    for number, row in rows(path):
        try:
            kind = _kind_of(row, kind)
            with collect():
                read_row(row, _READ[kind], CONVERT[kind], number)
        except Invalid as error:
            raise _bad(number, error, kind) from None
        count += 1
    if kind is None:
        raise Invalid("file", "no rows", "a JSONL file with at least one row")
    return kind, count


def _kind_of(row: object, before: FileKind | None) -> FileKind:
    if not isinstance(row, Mapping):
        raise Invalid("row", row, "an object")
    kinds: list[FileKind] = [kind for kind, names in _COLUMNS.items() if any(name in row for name in names)]
    wanted = " or ".join(
        f"{', '.join(names)} ({kind})" for kind, names in _COLUMNS.items() if before in (None, kind)
    )
    if len(kinds) != 1:
        raise Invalid("row", sorted(map(str, row)), f"an object with {wanted}")
    kind = kinds[0]
    if before not in (None, kind):
        found = next(name for name in _COLUMNS[kind] if name in row)
        raise Invalid(found, "…", f"rows of one kind in a file: the first has {wanted}")
    return kind


def _bad(line: int, error: Invalid, kind: FileKind | None = None) -> BadLine:
    field = error.field
    if kind == "dpo":
        name = next(
            (name for name in _NAMES if field == name or field.startswith((f"{name}[", f"{name}."))), ""
        )
        field = _NAMES.get(name, "") + field[len(name) :]
    return BadLine(line, field, error.value, error.accepted)
