"""What every command shares: finding the platform, asking it, and printing an answer."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trimtab.config.paths import DataPaths, data_directory
from trimtab.errors import PlatformNotFound, SettingsError, TrimtabError

if TYPE_CHECKING:
    from trimtab.config.settings import Settings
    from trimtab_client import ApiError, AsyncClient

T = TypeVar("T")

PIPED_WIDTH = 160
"""Columns of a table that goes to a file or another program."""

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended."""

console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
errors = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Data directory.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default: ./trimtab.toml if it is there.")
]


def print_anything() -> None:
    """Have what a terminal or a pipe has no character for printed escaped, rather than end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def fail(message: str, status: int = 1) -> NoReturn:
    """End the command with a message on standard error."""
    errors.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(status)


def read_text(option: str, file: Path) -> str:
    """Return the text of a file that an option names; one that cannot be read ends the command."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{option} {file}: {error}", 2)


def show_state(found: Mapping[str, Any], as_json: bool) -> None:
    """Print which state a run or a job is in."""
    if as_json:
        show(found, True)
    else:
        console.print(f"{found['id']} is {found['state']}", highlight=False)


def settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Return the settings, or end the command with every fault."""
    from trimtab.config.settings_file import (
        load,  # pydantic: half a second, and most commands read no setting
    )

    try:
        return load(config, **{name: value for name, value in overrides.items() if value is not None})
    except SettingsError as error:
        fail("the settings are wrong:\n  " + "\n  ".join(error.faults), 2)


def paths(data: Path | None = None) -> DataPaths:
    """Return the layout of the data directory that this command is about."""
    try:
        return DataPaths(data_directory(data))
    except SettingsError as error:
        fail(str(error), 2)


def address(data: Path | None = None) -> tuple[str, str | None]:
    """URL and key of the platform: `TRIMTAB_URL` and `TRIMTAB_KEY`, else what runs on the data directory.

    Raises PlatformNotFound.
    """
    url, key = os.environ.get("TRIMTAB_URL"), os.environ.get("TRIMTAB_KEY")
    if url:
        return url, key
    where = paths(data)
    facts = where.read_platform()
    if facts is None:
        raise PlatformNotFound(
            f"no platform runs on {where.root}. Start one with `trimtab up`, or set TRIMTAB_URL (and TRIMTAB_KEY)."
        )
    return str(facts["url"]), key or str(facts["key"])


def ask(question: Callable[[AsyncClient], Coroutine[Any, Any, T]], data: Path | None = None) -> T:
    """Run `question` against the platform; every failure ends the command with its reason."""
    # httpx's own command line takes as long to import as httpx, which does without it where it cannot be imported
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from trimtab_client import ApiError, AsyncClient, PlatformUnreachable

    async def run() -> T:
        url, key = address(data)
        async with AsyncClient(url, key=key) as client:
            return await question(client)

    try:
        return asyncio.run(run())
    except PlatformUnreachable as error:
        fail(f"{error}. Is `trimtab up` running?")
    except ApiError as error:
        fail(explain(error))
    except TrimtabError as error:
        fail(str(error))
    except UnicodeEncodeError as error:
        fail(f"{error.object!a} cannot be sent: it is not valid Unicode")
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def explain(error: ApiError) -> str:
    """Return one sentence on a refused request."""
    text = str(error)
    if error.accepted and str(error.accepted) not in text:
        text += f" (accepted: {error.accepted})"
    return text


def show(
    value: Any, as_json: bool, columns: Mapping[str, str] | None = None, empty: str = "nothing yet"
) -> None:
    """Print rows as a table (`columns`: key -> heading), one record as lines, or either as JSON."""
    if as_json:
        typer.echo(json.dumps(value, indent=2, default=str))
    elif isinstance(value, list):
        _table(value, columns or {}, empty)
    else:
        for key, part in value.items():
            console.print(
                f"[bold]{escape(str(key))}[/bold]: {escape(_cell(part))}", highlight=False, soft_wrap=True
            )


def _table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], empty: str) -> None:
    rows = list(rows)
    if not rows:
        console.print(f"[dim]{empty}[/dim]")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, heading in enumerate(columns.values()):
        # the first column is the name to copy into the next command: whole, on one line
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(
            *(
                _moment(row[key]) if key.endswith("_at") and row.get(key) else escape(_cell(row.get(key)))
                for key in columns
            )
        )
    console.print(table)


def _moment(value: str) -> str:
    """Return a time of the API in this machine's time zone, to the minute."""
    return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return json.dumps(value, default=str) if value else "-"
    if isinstance(value, list):
        return ", ".join(_cell(part) for part in value) if value else "-"
    return str(value)
