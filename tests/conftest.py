"""Fixtures that every folder of tests shares."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from xdist.scheduler import LoadScopeScheduling

import serve.engine.engine
from align.prepare import prepare
from store.db.database import Store
from tests.support.clicks import clicking_again

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class ByEngine(LoadScopeScheduling):
    """Several test processes share the work by files; files that share an engine stay in one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/serve" if uses_shared_engine(self.config.rootpath / file) else file


@cache
def uses_shared_engine(file: Path) -> bool:
    """Return whether a file of tests/serve has tests that are marked `engine`."""
    return "tests/serve/" in file.as_posix() and "mark.engine" in file.read_text()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByEngine:
    """What pytest-xdist asks when it is given `-n`."""
    return ByEngine(config, log)


@pytest.fixture(scope="session", autouse=True)
def _engines_take_their_share() -> None:
    """Engines stand back for the gateway before them; beside another test process they would hardly get a core."""
    serve.engine.engine.BEHIND_GATEWAY = 0


@pytest.fixture(scope="session", autouse=True)
def _platforms_here_start_light() -> None:
    """A platform in this process opens its screens when they are asked for, and has no worker wait for the next run.

    Both take longer than most tests; tests/e2e has platforms in processes of their own, which do as they always do.
    """

    if (
        "trimtab.app" not in sys.modules
    ):  # its imports take more than a second: no module that was collected needs it
        return
    import trimtab.app
    import trimtab.lifespan
    from tests.support.lazy_screens import LazyScreens

    async def no_waiting_worker(platform: object) -> None:
        """Take the place of `_keep_warm`."""

    trimtab.app.Screens = LazyScreens  # type: ignore[misc]
    trimtab.lifespan._keep_warm = no_waiting_worker


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


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty store, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "trimtab.duckdb"
    Store.open(path).close()
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Headless Chromium, for one module: while it is open, Playwright's event loop counts as running in this
    thread, and no asynchronous test could start.
    """
    path = shutil.which("chromium")
    assert path, "these tests drive Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with clicking_again():
            yield browser
        browser.close()
