"""docs/data.md names every format, setting and rater flag that there is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from store.datasets.snapshot_settings import SnapshotSettings
from store.transfer import export_file, formats

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")


def test_every_format_is_documented() -> None:
    for noun, known in formats.FORMATS.items():
        for name in known:
            assert f"| {noun} | `{name}` |" in PAGE
    for noun in export_file.FORMATS.values():
        for name in noun:
            assert f"`{name}`" in PAGE


def test_every_snapshot_setting_is_documented() -> None:
    for field in fields(SnapshotSettings):
        assert f"`{field.name}`" in PAGE
