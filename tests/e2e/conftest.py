"""One platform for the whole folder: starting an engine takes half a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.platform import PlatformProcess

SETTINGS = """
[gate]
suite = "{suite}"  # on two cores the built-in suites take longer than the training

[training]
checkpoint_steps = 1
"""
SUITE = """
[[measurements]]
kind = "heldout"
rows = 3

[[measurements]]
kind = "answers"
heldout = 2
max_tokens = 16

[[measurements]]
kind = "texts"
texts = 2
"""
"""Each measure that the gate requires, of as little as gives a figure."""


@pytest.fixture(scope="session")
def platform(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    """`trimtab up` on a directory that is empty but for the prepared base model; its engine serves."""
    data = tmp_path_factory.mktemp("platform") / "data"
    (data / "models").mkdir(parents=True)
    (data / "models" / "smollm2-135m-instruct").symlink_to(smollm2, target_is_directory=True)
    suite = data.parent / "suite.toml"
    suite.write_text(SUITE)
    running = PlatformProcess(data, SETTINGS.format(suite=suite))
    try:
        yield running.start()
    finally:
        running.stop()


ORDER = ("test_loop", "test_bad_input", "test_cli", "test_browser", "test_kill")
"""The story of the loop begins with an empty store, so it comes first; the test that kills the platform comes last.
Modules that are not listed come before that one.
"""


def _place_of(module: str) -> float:
    """Return where a module of this folder comes."""
    return ORDER.index(module) if module in ORDER else len(ORDER) - 1.5


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders this folder's modules; other folders keep their places."""
    here = Path(__file__).parent
    ours = [item for item in items if item.path.parent == here]
    ours.sort(key=lambda item: _place_of(item.path.stem))
    places = [index for index, item in enumerate(items) if item.path.parent == here]
    for place, item in zip(places, ours, strict=True):
        items[place] = item
