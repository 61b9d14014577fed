"""`trimtab pairs import|make|export|remove|stats`, and `import|export|remove` of `trimtab demos` and `trimtab likes`."""

from __future__ import annotations

from datetime import UTC, datetime
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli.common import AsJson, DataOption, ask, console, show
from trimtab.cli.training_data import make_pairs

if TYPE_CHECKING:
    from trimtab_client.values import Kind

pairs_app = typer.Typer(help="Preference pairs.", no_args_is_help=True)
demos_app = typer.Typer(help="Demonstrations.", no_args_is_help=True)
likes_app = typer.Typer(help="Likes and dislikes of single answers.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="JSONL, a JSON array, CSV or Parquet, also gzip or zstd.")]
Target = Annotated[
    Path, typer.Argument(help="A new file on the platform's machine; for parquet a directory.")
]
Format = Annotated[str | None, typer.Option(help="Format of the rows; default: detected from the content.")]
Deployment = Annotated[str | None, typer.Option(help="Deployment that the rows are for; default: every one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, keep nothing.")]
Rejects = Annotated[
    Path | None,
    typer.Option(
        help="A new file for the refused rows, with number and reason; default: FILE.rejects.jsonl."
    ),
]
Release = Annotated[str | None, typer.Option(help="Rows whose chosen answer this release gave.")]
Person = Annotated[str | None, typer.Option("--rater", help="Rows that this person supports.")]
Since = Annotated[datetime | None, typer.Option(help="Rows that arrived then or later (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="Rows that arrived before (UTC).")]
Tag = Annotated[str | None, typer.Option(help="Rows with this tag.")]
Agreement = Annotated[
    float | None,
    typer.Option("--min-agreement", help="Min margin between the votes for and against, 0 to 1."),
]
Ident = Annotated[str, typer.Argument(metavar="ID", help="Id of the row, as listings and runs show it.")]
Reason = Annotated[str, typer.Option(help="Why it goes; kept in the audit log.")]
OutFormat = Annotated[str, typer.Option("--format", help="trl, parquet, openai, ultrafeedback or csv.")]


def _register_import(app: typer.Typer, kind: Kind, rows: str) -> None:
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
        from trimtab.cli.training_data.imports import Wanted, run

        run(Wanted(kind, file, format, deployment, dry_run, rejects), as_json, data)

    summary = f"Import {rows}; bad rows are reported with number and reason and stop nothing."
    app.command("import", help=summary)(command)


_register_import(pairs_app, "pairs", "preference pairs")
_register_import(demos_app, "demonstrations", "demonstrations")
_register_import(likes_app, "likes", "KTO rows (prompt, completion, label)")


def _register_remove(app: typer.Typer, kind: Kind, row: str) -> None:
    """Add the command `remove`."""

    def command(ident: Ident, reason: Reason, as_json: AsJson = False, data: DataOption = None) -> None:
        done = ask(lambda client: client.data.remove(kind, ident, reason), data)
        if as_json:
            show(done, True)
            return
        console.print(f"{ident} is removed: later runs go without it", highlight=False)
        if done["releases"]:
            console.print(f"learned from it: {', '.join(done['releases'])}", highlight=False, soft_wrap=True)

    app.command("remove", help=f"Take a {row} out of the training data; the reason is audited.")(command)


_register_remove(pairs_app, "pairs", "pair")
_register_remove(demos_app, "demonstrations", "demonstration")
_register_remove(likes_app, "likes", "like or dislike")


FILTERS: dict[str, Any] = {
    "deployment": Deployment,
    "release": Release,
    "rater": Person,
    "since": Since,
    "until": Until,
    "tag": Tag,
    "min_agreement": Agreement,
}
"""Options that choose rows, by the name of the filter."""


def _register_export(app: typer.Typer, kind: Kind, rows: str, without: tuple[str, ...] = ()) -> None:
    """Add the command `export`, with every filter but those that the rows can't be chosen by."""
    filters = {name: option for name, option in FILTERS.items() if name not in without}

    def command(file: Path, format: str, data: Any, **where: Any) -> None:
        _export(kind, file, format, data, **where)

    options = {"file": Target, "format": OutFormat, **filters, "data": DataOption}
    defaults = {"file": Parameter.empty, "format": "trl"}
    command.__signature__ = Signature(  # type: ignore[attr-defined]  # what typer reads the options from
        [
            Parameter(name, Parameter.KEYWORD_ONLY, annotation=option, default=defaults.get(name))
            for name, option in options.items()
        ]
    )
    command.__annotations__ = options
    app.command("export", help=f"Export {rows} to a new file, whole or not at all.")(command)


_register_export(pairs_app, "pairs", "preference pairs")
_register_export(demos_app, "demonstrations", "demonstrations", without=("min_agreement",))
_register_export(likes_app, "likes", "likes and dislikes", without=("tag", "min_agreement"))


pairs_app.command("make")(make_pairs.make)


@pairs_app.command("stats")
def pair_stats(as_json: AsJson = False, data: DataOption = None) -> None:
    """Show counts, lengths and length bias."""
    show(ask(lambda client: client.data.pair_stats(), data), as_json)


def _export(kind: Kind, file: Path, format: str, data: Any, **where: Any) -> None:
    filters = {
        name: value.replace(tzinfo=UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in where.items()
    }
    made = ask(lambda client: client.data.export(kind, str(file.absolute()), format=format, **filters), data)
    console.print(f"{made['file']}: {made['rows']} rows", markup=False, soft_wrap=True)
