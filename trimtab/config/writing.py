"""Errors of the file system and of DuckDB, as one error that names the path."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from trimtab.errors import PathRefused

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes to `path`: where the system refuses that, PathRefused names it as the caller did.

    Files beside it, such as those that get its name once they are whole, count as the path itself.
    """
    try:
        yield
    except OSError as error:
        given = error.filename
        other = isinstance(given, str) and Path(given).parent != path.parent
        why = error.strerror or str(error)
        raise PathRefused(given if other else str(path), why, error.errno in _FULL) from error
    except duckdb.IOException as error:  # as DuckDB says it, which opens and writes files by itself
        raise PathRefused(str(path), str(error).removeprefix("IO Error: ")) from error
