"""A hub on loopback with tiny models, and the command line against that hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from tests.support.hub import Hub, running
from tests.support.models import make_tiny_base
from trimtab.cli import app


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def hub(tiny: Path) -> Iterator[Hub]:
    with running() as served:
        served.add("acme/tiny", tiny)
        yield served


@pytest.fixture
def cache(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, which talks to `hub` in this process; the working directory is empty too."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TRIMTAB_") and name != "TRIMTAB_TEST_CACHE"]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    cache = tmp_path / "hf" / "hub"
    changes = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(cache),
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
    }
    for name, value in changes.items():
        monkeypatch.setattr(constants, name, value)
    # for the child process that downloads
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return cache


Trimtab = Callable[..., str]


@pytest.fixture
def trimtab(cache: Path) -> Trimtab:
    """Run a command in this process; return what it prints, on both streams, in one line."""

    def run(*arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == status, done.output
        return " ".join(done.output.split())

    return run
