"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from align.prepare import prepare

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several test processes (pytest-xdist) share the work by files; what uses one engine stays in one process."""
    for item in items:
        shared = "pool" if "pool" in getattr(item, "fixturenames", ()) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """A directory that outlives the test run; what lies in it is immutable."""
    path = Path(os.environ.get("TRIMTAB_TEST_CACHE", Path.home() / ".cache" / "trimtab-tests"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def smollm2(test_cache: Path) -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face directory, prepared once a machine (about half a minute)."""
    return prepare(test_cache / "smollm2-135m-instruct")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Headless Chromium, for one module: while it is open, Playwright's event loop counts as running in this
    thread, and no asynchronous test could start.
    """
    path = shutil.which("chromium")
    assert path, "these tests drive Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
