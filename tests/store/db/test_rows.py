"""Reading rows: one that must be there, and one that may be."""

from __future__ import annotations

import pytest

from store.db.database import Store
from store.db.rows import fetch_first, fetch_one
from store.errors import NotFound


def test_fetch_one_returns_the_row_or_raises(db: Store) -> None:
    assert fetch_one(db.read(), "select 1 as n") == {"n": 1}
    with pytest.raises(NotFound, match="no run 'run-1'"):
        fetch_one(db.read(), "select 1 where false", otherwise=NotFound("run", "run-1"))
    with pytest.raises(LookupError, match="select 1 where false"):
        fetch_one(db.read(), "select 1 where false")


def test_fetch_first_returns_none_without_rows(db: Store) -> None:
    assert fetch_first(db.read(), "select 1 where false") is None
