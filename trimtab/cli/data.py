"""`trimtab pairs import|export|stats`, `trimtab demos import|export` and `trimtab likes import|export`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from serve.client import PlatformClient
from trimtab.cli.common import AsJson, DataOption, ask, console, fail, show

pairs_app = typer.Typer(help="Preference pairs.", no_args_is_help=True)
demos_app = typer.Typer(help="Demonstrations.", no_args_is_help=True)
likes_app = typer.Typer(help="Likes and dislikes of single answers.", no_args_is_help=True)

PIECE = 1 << 20
"""Bytes sent at a time."""

File = Annotated[Path, typer.Argument(help="JSONL, a JSON array, CSV or Parquet, also gzip or zstd.")]
Target = Annotated[
    Path, typer.Argument(help="A new file on the platform's machine; for parquet a directory.")
]
Format = Annotated[str | None, typer.Option(help="Format of the rows; default: told from the content.")]
Deployment = Annotated[str | None, typer.Option(help="Deployment that the rows are for; default: every one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, keep nothing.")]
Rejects = Annotated[
    Path | None,
    typer.Option(help="A new file on the platform's machine for the refused rows, with number and reason."),
]
Release = Annotated[str | None, typer.Option(help="Rows whose chosen answer this release gave.")]
Person = Annotated[str | None, typer.Option("--rater", help="Rows that this person stands behind.")]
Since = Annotated[datetime | None, typer.Option(help="Rows that arrived then or later (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="Rows that arrived before (UTC).")]
Tag = Annotated[str | None, typer.Option(help="Rows with this tag.")]
Agreement = Annotated[
    float | None, typer.Option("--min-agreement", help="Least margin among the voices, 0 to 1.")
]
OutFormat = Annotated[str, typer.Option("--format", help="trl, parquet, openai, ultrafeedback or csv.")]


def _register_import(app: typer.Typer, noun: str, rows: str) -> None:
    """Add the command `import`, which takes the same options for every kind of rows."""

    def command(
        file: File,
        format: Format = None,
        deployment: Deployment = None,
        dry_run: DryRun = False,
        rejects: Rejects = None,
        as_json: AsJson = False,
        data: DataOption = None,
    ) -> None:
        _import(noun, file, format, deployment, dry_run, rejects, as_json, data)

    summary = f"Import {rows}; bad rows are reported with number and reason and stop nothing."
    app.command("import", help=summary)(command)


_register_import(pairs_app, "pairs", "preference pairs")
_register_import(demos_app, "demonstrations", "demonstrations")
_register_import(likes_app, "likes", "KTO rows (prompt, completion, label)")


@pairs_app.command("export")
def export_pairs(
    file: Target,
    format: OutFormat = "trl",
    deployment: Deployment = None,
    release: Release = None,
    rater: Person = None,
    since: Since = None,
    until: Until = None,
    tag: Tag = None,
    min_agreement: Agreement = None,
    data: DataOption = None,
) -> None:
    """Export preference pairs to a new file, whole or not at all."""
    where = {"release": release, "rater": rater, "since": since, "until": until, "tag": tag}
    _export("pairs", file, format, data, deployment=deployment, min_agreement=min_agreement, **where)


@demos_app.command("export")
def export_demos(
    file: Target,
    format: OutFormat = "trl",
    deployment: Deployment = None,
    release: Release = None,
    rater: Person = None,
    since: Since = None,
    until: Until = None,
    tag: Tag = None,
    data: DataOption = None,
) -> None:
    """Export demonstrations to a new file, whole or not at all."""
    where = {"release": release, "rater": rater, "since": since, "until": until, "tag": tag}
    _export("demonstrations", file, format, data, deployment=deployment, **where)


@likes_app.command("export")
def export_likes(
    file: Target,
    format: OutFormat = "trl",
    deployment: Deployment = None,
    rater: Person = None,
    since: Since = None,
    until: Until = None,
    data: DataOption = None,
) -> None:
    """Export likes and dislikes to a new file, whole or not at all."""
    _export("likes", file, format, data, deployment=deployment, rater=rater, since=since, until=until)


@pairs_app.command("stats")
def pair_stats(as_json: AsJson = False, data: DataOption = None) -> None:
    """Counts, lengths and length bias."""
    show(ask(lambda client: client.pairs_stats(), data), as_json)


def _import(
    noun: str,
    file: Path,
    format: str | None,
    deployment: str | None,
    dry_run: bool,
    rejects: Path | None,
    as_json: bool,
    data: Any,
) -> None:
    if not file.is_file():
        fail(f"{file}: no such file")

    size = file.stat().st_size
    refused = str(rejects.absolute()) if rejects else None

    async def run(client: PlatformClient) -> Any:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=as_json) as bar:
            task = bar.add_task(f"sending {file.name}", total=size)

            async def pieces() -> AsyncIterator[bytes]:
                with file.open("rb") as stream:
                    while piece := await asyncio.to_thread(stream.read, PIECE):
                        yield piece
                        bar.advance(task, len(piece))
                bar.update(task, description=f"importing {file.name}")

            options = {
                "name": file.name,
                "format": format,
                "deployment": deployment,
                "dry_run": str(dry_run).lower(),
                "rejects": refused,
            }
            return await client.upload(f"/api/imports/{noun}", pieces(), options)

    found = ask(run, data)
    if as_json:
        show(found, True)
        return
    would = "would be " if dry_run else ""
    console.print(
        f"{found['accepted']} {would}accepted, {found['duplicates']} known already, {found['rejected_count']} refused "
        f"({found['format']} rows, {found['container']})"
    )
    if found["broke_off"]:
        console.print(
            f"[yellow]the file breaks off: {found['broke_off']}; the whole rows before were taken[/yellow]"
        )
    if found["rejects"]:
        console.print(f"the refused rows are in {found['rejects']}")
    for row in found["rejected"][:20]:
        console.print(f"  row {row['row']}: {row['why']}", highlight=False, soft_wrap=True)


def _export(noun: str, file: Path, format: str, data: Any, **where: Any) -> None:
    filters = {
        name: value.replace(tzinfo=UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in where.items()
    }
    body = {"file": str(file.absolute()), "format": format, **filters}
    made = ask(lambda client: client.request("POST", f"/api/exports/{noun}", body), data)
    console.print(f"{made['file']}: {made['rows']} rows")
