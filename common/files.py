"""Files: written whole or not at all, and their SHA-256."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write_atomic(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a file so that a reader sees all of it or the file before; durable on return. Blocking.

    `mode` are the permissions of a new file, before the umask; a file that is replaced gets them too. Raises `OSError`,
    leaving the file before as it was and nothing beside it.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits. Raises `OSError`. Blocking."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
