"""A damaged store: the platform ends or says so, with the way back, never with DuckDB's bare error."""

from __future__ import annotations

import asyncio
from pathlib import Path

import duckdb
import pytest

from store.db.database import Store
from store.errors import StoreDamaged
from store.training_data import pairs
from trimtab.api.training_data import routes as training_data
from trimtab.app import build_platform
from trimtab.config.serving_sections import EngineSettings, ServerSettings
from trimtab.config.settings import Settings
from trimtab.server import up

URL = "http://127.0.0.1:7860"


def settings(data: Path) -> Settings:
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    return Settings(data=data, engines=engines, server=ServerSettings(port=0))


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are too large to be read at the start, and what reads them whole meets a damaged block."""

    def meets(cursor: duckdb.DuckDBPyConnection) -> None:
        raise duckdb.Error("Corrupt database file: computed checksum 1 does not match stored checksum 2")

    monkeypatch.setattr("store.db.database.VERIFIED_BYTES", 0)
    monkeypatch.setattr("store.db.database.read_all", meets)


def test_up_ends_with_the_way_back(damaged: None, tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match=r"trimtab\.duckdb is damaged .*`trimtab restore BACKUP`"):
        up(settings(tmp_path))
    Store.open(tmp_path / "trimtab.duckdb").close()


def test_request_that_finds_a_damaged_block_names_the_recovery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meets(db: Store) -> None:
        raise duckdb.Error("Corrupt database file: computed checksum 1 does not match stored checksum 2")

    monkeypatch.setattr(pairs, "stats", meets)
    platform = build_platform(settings(tmp_path), URL)
    with pytest.raises(StoreDamaged, match="trimtab restore BACKUP"):
        asyncio.run(training_data.pair_stats(platform, None))  # type: ignore[arg-type] (it asks nobody)
    platform.db.close()
