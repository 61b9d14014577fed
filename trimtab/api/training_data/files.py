"""Files on the platform's machine whose path a caller names."""

from __future__ import annotations

from pathlib import Path

from trimtab.api.problems import Problem
from trimtab.config.writing import writing


def new_path(file: str, field: str = "file") -> Path:
    """Return where a new file may be made. Raises Problem 409 where something is there, 422 where no directory is."""
    if "\0" in file:
        raise Problem(422, "a path cannot hold a NUL character", field=field, accepted="a new file's path")
    path = Path(file).expanduser().absolute()
    with writing(path):
        if path.exists():
            raise Problem(409, f"{path} exists already", field=field)
        if not path.parent.is_dir():
            raise Problem(422, f"{path.parent} is not a directory", field=field, accepted="a new file's path")
    return path
