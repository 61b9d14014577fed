"""`trimtab snapshots list|show`: the frozen data sets and what went into them."""

from __future__ import annotations

from typing import Annotated

import typer

from trimtab.cli.common import AsJson, DataOption, ask, console, show

app = typer.Typer(help="Frozen data sets with their reports.", no_args_is_help=True)

COLUMNS = {
    "hash": "snapshot",
    "deployment": "deployment",
    "method": "method",
    "train_rows": "train",
    "heldout_rows": "held out",
    "created_at": "made",
}
LENGTHS = {"part": "characters of", "mean": "mean", "median": "median", "p95": "95%"}


@app.command("list")
def list_snapshots(as_json: AsJson = False, data: DataOption = None) -> None:
    """List snapshots, newest first."""
    rows = ask(lambda client: client.data.snapshots(), data)
    show(rows, as_json, COLUMNS, "no snapshots yet: each run makes one")


@app.command("show")
def show_snapshot(
    snapshot: Annotated[str, typer.Argument(help="A snapshot's hash.")],
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Show one snapshot: its settings and its data report."""
    found = ask(lambda client: client.data.snapshot(snapshot), data)
    if as_json:
        show(found, True)
        return
    report = dict(found.pop("report"))
    lengths = report.pop("lengths", None) or {}
    show(found, False)
    console.print()
    show(report, False)
    if lengths:
        console.print()
        show([{"part": part, **sizes} for part, sizes in lengths.items()], False, LENGTHS)
