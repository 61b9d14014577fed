"""A store of its own for each test, copied from one that is made once: a tenth of a second each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.db.database import Store


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty store, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "trimtab.duckdb"
    Store.open(path).close()
    return path


@pytest.fixture
def db(empty: Path, tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store.open(shutil.copy(empty, tmp_path / "trimtab.duckdb")) as store:
        yield store
