"""`trimtab lineage pair|user|release`: who learned from what, in both directions."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from trimtab.cli.common import AsJson, DataOption, ask, show
from trimtab.cli.releases.releases import lineage as of_release

app = typer.Typer(help="Which releases learned from what, and from whom.", no_args_is_help=True)

COLUMNS = {"ref": "release", "adapter": "adapter", "run": "run"}


@app.command("pair")
def of_pair(
    pair: Annotated[str, typer.Argument(help="A pair's id.")],
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """List every release that learned from a pair."""
    _learned(ask(lambda client: client.data.pair_lineage(pair), data), as_json)


@app.command("user")
def of_user(
    name: Annotated[str, typer.Argument(help="A person's name.")],
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """List every release that learned from what a person wrote, voted or liked."""
    _learned(ask(lambda client: client.admin.user_lineage(name), data), as_json)


app.command("release")(of_release)


def _learned(rows: list[dict[str, Any]], as_json: bool) -> None:
    show(rows, as_json, COLUMNS, "no release learned from it")
