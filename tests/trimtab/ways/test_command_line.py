"""`trimtab prompts search`, `releases compare` and `models compare` against a platform in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.in_thread import platform_in_thread
from tests.trimtab.ways.conftest import built
from trimtab.cli import app
from trimtab.platform import Platform

RULES = 'prefer = "shorter"\nrules = [{rule = "max_sentences", value = 2}]\n'
SUITE = '[[measurements]]\nkind = "answers"\nheldout = 24\nmax_tokens = 40\n'


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rules.toml").write_text(RULES)
    Path("suite.toml").write_text(SUITE)
    return tmp_path


@pytest.fixture
def platform(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    with platform_in_thread(lambda url: built(here / "data", monkeypatch, url=url)[0]) as platform:
        yield platform


def test_from_the_search_to_the_recommendation(platform: Platform, here: Path) -> None:
    shown = run(
        "prompts", "search", "assistant", "--rules", "rules.toml", "--shots", "0,2", "--prompts", "12"
    )
    assert "Answer in at most two sentences." in shown
    assert "assistant@2" in shown
    assert "scored by rules against none" in shown
    assert "trimtab rollout canary assistant assistant@" in shown

    wanted = (
        "releases",
        "compare",
        "assistant",
        "--suite",
        str(here / "suite.toml"),
        "--rules",
        "rules.toml",
    )
    shown = run(*wanted, "--html", "ways.html")
    assert "Recommended: " in shown
    assert "few-shot" in shown
    assert "<svg" in Path("ways.html").read_text()
    assert set(json.loads(run(*wanted, "--json"))["models"]) == {"base", "prompt", "few-shot"}

    models = ("models", "compare", "assistant@1", "assistant@2", "--suite", str(here / "suite.toml"))
    shown = run(*models, "--rules", "rules.toml")
    assert "tokens/s" in shown
    assert "Recommended" not in shown


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("prompts", "search", "--shots", "two"), "--shots two: accepted are whole numbers"),
        (("prompts", "search", "--rules", "none.toml"), "--rules none.toml: "),
        (("prompts", "search", "--rules", "broken.toml"), "--rules broken.toml: "),
        (
            ("prompts", "search", "--candidates", "empty.txt"),
            "--candidates empty.txt: accepted is a JSON list",
        ),
        (
            ("prompts", "search", "--candidates", "object.json"),
            "--candidates object.json: accepted is a JSON list",
        ),
        (("prompts", "search", "--write-with", "http://x/v1"), "--write-model is needed"),
        (("releases", "compare", "--html", "no/where.html"), "accepted is a file in a folder that exists"),
        (("models", "compare", "a", "b", "--html", "page.pdf"), "ending in .html"),
        (
            ("models", "compare", "a", "b", "--suite", "quick", "--prompt", "Why?"),
            "--prompt is sent without a suite",
        ),
    ],
)
def test_bad_input_names_the_option(here: Path, arguments: tuple[str, ...], why: str) -> None:
    Path("broken.toml").write_text("rules = [")
    Path("empty.txt").write_text("\n\n")
    Path("object.json").write_text("{}")
    assert why in " ".join(run(*arguments, status=2).split())
