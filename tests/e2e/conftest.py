"""One platform for the whole folder: starting an engine takes most of a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.platform import PlatformProcess


@pytest.fixture(scope="session")
def data_with_model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty data directory but for the prepared base model."""
    return make_data(tmp_path_factory.mktemp("platform") / "data", smollm2)


def make_data(data: Path, model: Path) -> Path:
    """A data directory whose base model is prepared already."""
    (data / "models").mkdir(parents=True)
    (data / "models" / "smollm2-135m-instruct").symlink_to(model, target_is_directory=True)
    return data


@pytest.fixture(scope="session")
def platform(data_with_model: Path) -> Iterator[PlatformProcess]:
    """`trimtab up`, its engine serving."""
    running = PlatformProcess(data_with_model)
    try:
        yield running.start()
    finally:
        running.stop()


ORDER = ("test_loop", "test_bad_input", "test_cli", "test_browser", "test_kill")
"""The story of the loop begins with an empty store, so it comes first; the longest stand-alone test comes last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders this folder's modules; other folders keep their places."""
    here = Path(__file__).parent
    ours = [item for item in items if item.path.parent == here]
    ours.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER))
    places = [index for index, item in enumerate(items) if item.path.parent == here]
    for place, item in zip(places, ours, strict=True):
        items[place] = item
