"""`trimtab releases export`: a release as files that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from trimtab.cli.common import (
    INTERRUPTED,
    AsJson,
    ConfigOption,
    DataOption,
    ask,
    console,
    errors,
    fail,
    settings,
    show,
)
from trimtab.config.paths import DataPaths
from trimtab.errors import ExportRefused

if TYPE_CHECKING:
    from trimtab_client import AsyncClient

LEARNED = ("pairs", "demonstrations", "likes")


def export(
    release: Annotated[str, typer.Argument(help="A release, such as `assistant@3`.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    to: Annotated[
        str, typer.Option(help="peft (the adapter), or hf (merged weights for transformers).")
    ] = "peft",
    dtype: Annotated[
        str, typer.Option(help="Type of merged weights: auto (the base's own), float32, bfloat16 or float16.")
    ] = "auto",
    as_json: AsJson = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a release into a folder with a model card, checked against the release by its log-probabilities."""
    from trimtab.exports.export import export as write
    from trimtab.exports.job import Exported

    async def look_up(client: AsyncClient) -> tuple[Any, Any]:
        return await client.rollout.release(release), await client.rollout.lineage(release)

    found, tree = ask(look_up, data)
    chosen = settings(config, data=data)
    asked = Exported(
        found, {noun: tree.get(noun) or 0 for noun in LEARNED}, to, out, dtype, len(tree["examples"])
    )
    try:
        with _bar(as_json) as bar:
            task = bar.add_task(f"exporting {release}", total=None)
            facts = write(
                asked,
                chosen,
                DataPaths(chosen.data.absolute()),
                lambda done, total, doing: bar.update(task, completed=done, total=total, description=doing),
            )
    except ExportRefused as error:
        fail(str(error), 2)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was written", highlight=False)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        show(facts, True)
        return
    share = facts["effect_share"]
    does = "" if share is None else f"; they do {share:.2%} of what the adapter does"
    console.print(
        f"{release} is in {facts['out']} ({facts['dtype']}). Read back, its log-probabilities differ from the release's by "
        f"{facts['mean_abs']:.2g} a token{does}.",
        highlight=False,
        soft_wrap=True,
    )


def _bar(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=errors, transient=True, disable=quiet)
