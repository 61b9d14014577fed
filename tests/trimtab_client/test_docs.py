"""The code blocks of docs/client.md run in order against a real platform with a stub engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "client.md"
QUESTION = "Why is the sky blue?"


@pytest.mark.slow
def test_code_blocks_of_the_page_run(
    platform_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIMTAB_URL", platform_url)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) >= 7
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        # `say 3` has the stub engine answer three words
        exec(compile(block.replace(QUESTION, "say 3"), f"{PAGE}, block {number + 1}", "exec"), names)
        assert number in (1,) or capsys.readouterr().out.strip(), block


def test_the_page_names_every_resource() -> None:
    from trimtab_client import AsyncClient

    text = PAGE.read_text()
    with_resources = AsyncClient("http://127.0.0.1:9")
    for name in vars(with_resources):
        if not name.startswith("_") and name != "url":
            assert f"`client.{name}`" in text
