"""A store of its own for each test, copied from one that is made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.db.database import Store


@pytest.fixture
def db(empty: Path, tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store.open(shutil.copy(empty, tmp_path / "trimtab.duckdb")) as store:
        yield store
