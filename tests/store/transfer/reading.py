"""Reads a file as an import does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from store.errors import Invalid, Truncated
from store.transfer.row_files import RowFile

ROW = {"prompt": "Q", "chosen": "good", "rejected": "bad"}


def read(path: Path, data: bytes | str, container: str | None = None) -> tuple[str, list[Any], str | None]:
    """Return the container, the rows (of bad ones the reason) and where the file breaks off."""
    path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    rows: list[Any] = []
    with RowFile(path, container) as file:
        where = None
        try:
            for row in file.rows():
                rows.append(row.accepted if isinstance(row, Invalid) else row)
        except Truncated as broke_off:
            where = broke_off.where if broke_off.after_row == len(rows) else "a wrong row"
        return file.container, rows, where
