"""Import of one file: send it, show its progress, report its result."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from common.import_rules import RULES
from trimtab.cli.common import INTERRUPTED, ask, console, errors, fail, show
from trimtab.errors import PathRefused

if TYPE_CHECKING:
    from trimtab_client import AsyncClient
    from trimtab_client.values import Kind

PIECE = 1 << 20
"""Bytes sent at a time."""
SHOWN = 20
"""Refused rows that are printed."""


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    kind: Kind
    file: Path
    format: str | None = None
    deployment: str | None = None
    dry_run: bool = False
    rejects: Path | None = None


def run(wanted: Wanted, as_json: bool, data: Path | None) -> None:
    """Import a file and print the result; exit 1 where no row was taken."""
    file = _file(wanted.file)
    source = _readable(file)
    refused = Refused(wanted.file.absolute() if wanted.file.is_dir() else wanted.file, wanted.rejects)
    screen = _Screen(replace(wanted, file=file), source, quiet=as_json)

    async def go(client: AsyncClient) -> dict[str, Any]:
        await client.data.import_options(wanted.kind, wanted.format, wanted.deployment)
        name = os.fsencode(wanted.file.absolute().name).decode("utf-8", "replace")
        lines = client.data.import_file(
            wanted.kind,
            screen.sending(),
            name=name,
            format=wanted.format,
            deployment=wanted.deployment,
            dry_run=wanted.dry_run,
        )
        with screen, refused:  # in here, so that the bar is off the screen before an error is printed
            async with aclosing(
                lines
            ):  # an interrupted command closes the connection, which stops the import
                async for line in lines:
                    if "progress" in line:
                        screen.importing(line["progress"])
                    elif "refused" in line:
                        refused.write(line["refused"])
                    else:
                        return dict(line["result"])
        raise AssertionError("an import ends with a result or an error")

    try:
        with source:
            done = ask(go, data)
    except typer.Exit as end:
        if end.exit_code == INTERRUPTED:
            errors.print(screen.stopped(), highlight=False, soft_wrap=True)
        raise
    done["rejects"] = str(refused.path) if refused.path else None
    if as_json:
        show(done, True)
    else:
        _say(done, wanted, refused)
    if not (done["accepted"] or done["duplicates"]):
        raise typer.Exit(1)


def _file(path: Path) -> Path:
    """Return the file to send: of a dataset's directory, as `export --format parquet` leaves it, its Parquet file."""
    if not path.is_dir():
        return path
    found = sorted(part for level in ("*", "*/*") for part in path.glob(f"{level}.parquet") if part.is_file())
    if len(found) != 1:
        fail(
            f"{path} is a directory with {len(found)} Parquet files; accepted: a file of rows, or a directory with one "
            "Parquet file in it"
        )
    return found[0]


def _readable(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except FileNotFoundError:
        fail(f"{file}: no such file")
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")


def _say(done: dict[str, Any], wanted: Wanted, refused: Refused) -> None:
    would = "would be " if wanted.dry_run else ""
    console.print(
        f"{done['accepted']} {would}accepted, {done['duplicates']} known already, {done['rejected_count']} refused "
        f"({done['format']} rows, {done['container']})"
    )
    if done["broke_off"]:
        console.print(f"[yellow]{escape(done['broke_off'])}; the whole rows before were taken[/yellow]")
    for column, rows in list(done["unused_columns"].items())[:SHOWN]:
        console.print(
            f"  column {column} was not used ({rows:,} rows)", highlight=False, markup=False, soft_wrap=True
        )
    for rule, rows in done["rules"].items():
        console.print(
            f"  {RULES.get(rule, rule)} ({rule}, {rows:,} rows)",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for row in done["rejected"][:SHOWN]:
        console.print(f"  row {row['row']}: {row['why']}", highlight=False, soft_wrap=True, markup=False)
    if refused.path:
        console.print(
            f"the refused rows are in {refused.path}", highlight=False, soft_wrap=True, markup=False
        )
    if refused.fault:
        errors.print(
            f"[yellow]the refused rows were not written: {escape(refused.fault)}[/yellow]", highlight=False
        )
    if done["rejected_count"] and not (done["accepted"] or done["duplicates"]):
        errors.print("[red]error:[/red] no row was taken: every one was refused")


class Refused:
    """The file of refused rows, made when there is one: `path` then says where. A file that is there is never touched.

    Without a name it lies beside the file that is imported, or, where that may not be, in the working directory.
    """

    def __init__(self, file: Path, named: Path | None) -> None:
        self.path: Path | None = None
        self.fault: str | None = None
        self._source, self._named = file, named
        self._file: IO[str] | None = None
        if named is not None and named.exists():
            fail(f"--rejects: {named} exists already")
        if named is not None and not named.absolute().parent.is_dir():
            fail(f"--rejects: {named.absolute().parent} is not a directory")

    def write(self, row: dict[str, Any]) -> None:
        """Add a row: `{row, why, data}`."""
        from trimtab_client import ndjson  # httpx: imported by `ask`, without its command line

        if self.fault is not None:
            return
        try:
            if self._file is None:
                self._file = self._open()
                self.path = Path(self._file.name)
            self._file.write(ndjson.line(row))
        except OSError as error:
            self.fault = f"{self.path or error.filename}: {error.strerror}"

    def _open(self) -> IO[str]:
        if self._named is not None:
            return self._named.open("x", encoding="utf-8")
        try:
            return _first_free(self._source)
        except OSError:
            return _first_free(Path(self._source.name))

    def __enter__(self) -> Refused:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _first_free(file: Path) -> IO[str]:
    """`FILE.rejects.jsonl`, opened, or with a number where there is one."""
    for number in count(1):
        mark = "" if number == 1 else f"-{number}"
        with suppress(FileExistsError):
            return file.with_name(f"{file.name}.rejects{mark}.jsonl").open("x", encoding="utf-8")
    raise AssertionError("names have no end")


class _Screen:
    """A bar for the upload, then one for the import; and what to say where the command was interrupted."""

    def __init__(self, wanted: Wanted, source: IO[bytes], quiet: bool) -> None:
        self._wanted, self._source = wanted, source
        self._size = wanted.file.stat().st_size
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[rows]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=quiet)
        self._task = self._bar.add_task(f"sending {wanted.file.name}", total=self._size, rows="")
        self._told: dict[str, Any] | None = None

    async def sending(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes, piece by piece."""
        try:
            while piece := await asyncio.to_thread(self._source.read, PIECE):
                yield piece
                self._bar.advance(self._task, len(piece))
        except OSError as error:
            raise PathRefused(str(self._wanted.file), error.strerror or str(error)) from error

    def importing(self, progress: dict[str, Any]) -> None:
        """Show how far the platform is."""
        if self._told is None:
            self._bar.reset(self._task)
        self._told = progress
        read = progress["bytes_done"] >= progress["bytes_total"]
        doing = "waiting to import" if progress["waiting"] else "finishing" if read else "importing"
        self._bar.update(
            self._task,
            description=f"{doing} {self._wanted.file.name}",
            # once everything was read, a bar that moves by itself: what is left is not counted
            total=None if read else progress["bytes_total"],
            completed=progress["bytes_done"],
            rows=f"{progress['rows']:,} rows",
        )

    def stopped(self) -> str:
        """Return what an interruption leaves."""
        if self._wanted.dry_run:
            return "stopped: a dry run keeps nothing"
        if self._told is None or not self._told["accepted"]:
            return "stopped: no rows were taken"
        return (
            f"stopped: at least {self._told['accepted']:,} rows were taken and stay; "
            "the same file again adds only what is missing"
        )

    def __enter__(self) -> _Screen:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._bar.update(self._task, total=self._size, completed=self._size)
        self._bar.stop()
