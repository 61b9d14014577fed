"""Every page is linked, every link resolves, and what code blocks and inline code name exists."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from trimtab.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "integrations").glob("*.md")])
OURS = ("trimtab", "trimtab_client", "feedback_ui", "serve", "align", "store", "common", "bench", "tests")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text("utf-8"))


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text("utf-8")) if language in languages]


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def links(page: Path) -> list[tuple[str, str]]:
    """Return the relative links of a page: path (empty: the page itself) and anchor."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [(t.partition("#")[0], t.partition("#")[2]) for t in found if "://" not in t]


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings get from a Markdown host."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def names_code(name: str) -> bool:
    """Say whether a dotted name is a module of ours, or a name within one."""
    module = name
    while module and not is_module(module):
        module = module.rpartition(".")[0]
    rest = name[len(module) + 1 :].partition(".")[0] if module else name
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return not rest or (
        source.is_file() and re.search(rf"\b{re.escape(rest)}\b", source.read_text()) is not None
    )


def command_error(words: list[str]) -> str:
    """Return what is wrong with the words after `trimtab`, as far as they name commands; else nothing."""
    commands: list[Any] = [typer.main.get_command(app)]
    for word in words:
        groups = [command for command in commands if hasattr(command, "commands")]
        if not groups or not re.fullmatch(r"[a-z][a-z|-]*", word):
            return ""
        commands = [group.commands.get(name) for group in groups for name in word.split("|")]
        if None in commands:
            return f"no command {word!r}"
    return ""


def shell_errors(line: str) -> list[str]:
    errors = []
    makefile = (ROOT / "Makefile").read_text()
    line = line.partition("#")[0]
    for target in re.findall(r"^make ([a-z-]+)", line):
        if f"\n{target}:" not in makefile:
            errors.append(f"no target {target}")
    for words in re.findall(r"(?:^|\s|/)trimtab ([^|&;]*)", line):
        errors.append(command_error(words.split()))
    for module in re.findall(r"python3? -m ([\w.]+)", line):
        if module.partition(".")[0] in OURS:
            found = is_module(module)
        else:
            found = importlib.util.find_spec(module.partition(".")[0]) is not None
        errors += [] if found else [f"no module {module}"]
    for path in re.findall(r"(?<![\w/.-])((?:scripts|bench|tests)/[\w./-]+)", line):
        errors += [] if (ROOT / path).exists() else [f"no file {path}"]
    return [error for error in errors if error]


def test_every_page_is_linked_from_another_one() -> None:
    linked = {(page.parent / path).resolve() for page in PAGES for path, _ in links(page) if path}
    assert [page.name for page in PAGES if page not in linked and page != ROOT / "README.md"] == []


@pages
def test_every_relative_link_resolves(page: Path) -> None:
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pages
def test_every_command_in_a_shell_block_exists(page: Path) -> None:
    found = [
        error
        for block in blocks(page, "sh", "bash")
        for line in block.splitlines()
        for error in shell_errors(line)
    ]
    assert found == []


@pages
def test_every_command_in_the_text_exists(page: Path) -> None:
    found = [
        error
        for code in inline_code(page)
        if code.startswith(("trimtab ", "make "))
        for error in shell_errors(code)
    ]
    assert found == []


@pages
def test_every_python_block_parses_and_imports_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                )
                for name in names:
                    package = name.partition(".")[0]
                    assert is_module(name) if package in OURS else importlib.util.find_spec(package), name


@pages
def test_every_module_and_file_in_the_text_exists(page: Path) -> None:
    missing = []
    settings = re.findall(r"^\| `([\w.]+)`", (ROOT / "docs" / "settings.md").read_text(), re.M)
    for code in set(inline_code(page)) - set(settings):
        if re.fullmatch(rf"(?:{'|'.join(OURS)})(?:\.\w+)+", code) and not code.endswith(
            (".toml", ".duckdb", ".sh")
        ):
            missing += [] if names_code(code) else [code]
        elif re.fullmatch(rf"(?:{'|'.join(OURS)}|docs|scripts|requirements|integrations)/[\w./-]*", code):
            missing += [] if (ROOT / code).exists() else [code]
    assert missing == []
