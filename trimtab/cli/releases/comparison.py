"""What the commands that compare releases, models and prompts share: files with rules and requests, and the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli.common import ask, console, fail, read_text, show
from trimtab.cli.jobs import follow
from trimtab.cli.training_data.make_pairs import table_of

if TYPE_CHECKING:
    from trimtab_client import AsyncClient
    from trimtab_client.types import Job

RulesOption = Annotated[
    Path | None,
    typer.Option(
        help="A .toml or .json file with `rules` and `prefer`, as of a suite's win_rate; who wins by them."
    ),
]
RequestsOption = Annotated[
    Path | None,
    typer.Option(
        help="Requests to answer in place of held-out rows: a JSON list, or texts with blank lines between."
    ),
]
HtmlOption = Annotated[
    Path | None, typer.Option(help="Write the comparison with its plots to this .html file.")
]


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def read_rules(file: Path | None) -> dict[str, Any] | None:
    """Read a file of rules; the command ends with 2 where it holds none."""
    return None if file is None else table_of(file, "--rules")


def read_texts(option: str, file: Path | None) -> list[str] | None:
    """Read a file of texts: a JSON list, else paragraphs; the command ends with 2 where it holds none."""
    if file is None:
        return None
    text = read_text(option, file)
    if file.suffix == ".json":
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            fail(f"{option} {file}: {error}; accepted: a list of texts", 2)
    else:
        found = [part.strip() for part in text.replace("\r\n", "\n").split("\n\n") if part.strip()]
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        fail(f"{option} {file}: accepted is a JSON list of texts, or texts with blank lines between", 2)
    return found


def show_comparison(
    ask_for: Callable[[AsyncClient], Coroutine[Any, Any, Job]],
    html: Path | None,
    as_json: bool,
    data: Path | None,
) -> None:
    """Ask for a comparison, follow it, and show its table, and what it recommends; write its page where one is wanted."""
    from common.files import write_atomic
    from trimtab.config.writing import writing

    if html is not None and (html.suffix != ".html" or not html.absolute().parent.is_dir()):
        fail(f"--html {html}: accepted is a file in a folder that exists, ending in .html", 2)
    job = follow(ask(ask_for, data)["id"], data, quiet=as_json)
    if html is not None:
        page = ask(lambda client: client.rollout.comparison_report(job["id"]), data)
        with writing(html.absolute()):
            write_atomic(html, page.encode())
    result = job["result"] or {}
    if as_json:
        show(result, True)
        return
    rows = ask(lambda client: client.rollout.comparison_table(job["id"]), data)
    show(rows, False, {name: name for name in rows[0]} if rows else {})
    if "recommended" in result:
        console.print(
            f"Recommended: {result['recommended']}. {result['why']}.",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    took = f"{result['seconds'] / 60:.1f} min, suite {result['suite']}, against {result['baseline']}; n counts prompts"
    console.print(took, highlight=False, markup=False)
