"""Files written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from common.files import sha256_file, write_atomic


def test_write_atomic_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "one ü")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.json"]


def test_write_atomic_sets_the_mode_of_a_file_with_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("before")
    path.chmod(0o644)
    write_atomic(path, "secret", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600


def test_write_atomic_keeps_the_old_file_when_the_disk_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    (tmp_path / f".a.{os.getpid()}.partial").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomic(path, "after")
    assert path.read_text() == "before"


def test_sha256_file_reads_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_file(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()
