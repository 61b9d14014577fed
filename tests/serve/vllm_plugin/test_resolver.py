"""The resolver answers for published adapters and nothing else; the engine tests show it inside vLLM."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from serve.vllm_plugin import resolver


def published(directory: Path, name: str) -> Path:
    path = directory / name
    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text("{}")
    return path


def test_a_published_adapter_is_found(tmp_path: Path) -> None:
    path = published(tmp_path, "a-0123456789abcdef")
    assert resolver.find("a-0123456789abcdef", str(tmp_path)) == path


@pytest.mark.parametrize(
    "name", ["gpt-4", "a-0123456789abcdeF", "a-0123456789abcde", "../secrets", "a-0123456789abcdef/..", ""]
)
def test_other_names_are_not_looked_up(name: str, tmp_path: Path) -> None:
    published(tmp_path, "gpt-4")
    published(tmp_path, "a-0123456789abcdeF")
    assert resolver.find(name, str(tmp_path)) is None


def test_links_and_missing_directories_are_not_followed(tmp_path: Path) -> None:
    elsewhere = published(tmp_path, "elsewhere")
    (tmp_path / "a-0000000000000000").symlink_to(elsewhere)
    assert resolver.find("a-0000000000000000", str(tmp_path)) is None
    assert resolver.find("a-1111111111111111", str(tmp_path)) is None
    assert resolver.find("a-1111111111111111", None) is None


def test_vllm_finds_the_plugin_by_entry_point() -> None:
    found = {e.name: e.value for e in entry_points(group="vllm.general_plugins")}
    assert found["trimtab"] == "serve.vllm_plugin.resolver:register"
