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
    from trimtab.config.settings import Settings
    from trimtab.exports.job import Exported
    from trimtab.exports.push import Target
    from trimtab_client import AsyncClient

LEARNED = ("pairs", "demonstrations", "likes")


def export(
    release: Annotated[str, typer.Argument(help="A release, such as `assistant@3`.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.")],
    to: Annotated[
        str,
        typer.Option(
            help="peft (the adapter), hf (merged weights for transformers) or gguf (for llama.cpp and Ollama)."
        ),
    ] = "peft",
    dtype: Annotated[
        str, typer.Option(help="Type of merged weights: auto (the base's own), float32, bfloat16 or float16.")
    ] = "auto",
    quantize: Annotated[
        str | None, typer.Option(help="Type of GGUF weights: f32, f16, bf16 or q8_0 (the default).")
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="REPO",
            help="Then put the folder into this repository of a hub (HF_ENDPOINT), in one commit; HF_TOKEN must allow it.",
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Push to a public repository; otherwise it must be private.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Push also to a repository that has files, instead of them.")
    ] = False,
    as_json: AsJson = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a release into a folder with a model card, checked against the release by its log-probabilities."""
    from trimtab.exports import push as hub
    from trimtab.exports.job import Exported

    if (public or overwrite) and push is None:
        fail("--public, --overwrite: they say how to push; name a repository with --push", 2)

    async def find(client: AsyncClient) -> tuple[Any, Any]:
        return await client.rollout.release(release), await client.rollout.lineage(release)

    found, tree = ask(find, data)
    chosen = settings(config, data=data)
    learned = {noun: tree.get(noun) or 0 for noun in LEARNED}
    asked = Exported(found, learned, to, out, dtype, len(tree["examples"]), quantize)
    try:
        target = hub.look_up(push, public, overwrite) if push else None
        facts = _write(asked, chosen, as_json)
    except ExportRefused as error:
        fail(str(error), 2)
    except KeyboardInterrupt:
        errors.print("interrupted; nothing was written", highlight=False)
        raise typer.Exit(INTERRUPTED) from None
    if target is not None:
        facts["pushed"] = _push(target, facts["out"], release, as_json)
    if as_json:
        show(facts, True)
        return
    share = facts["effect_share"]
    does = "" if share is None else f"; they do {share:.2%} of what the adapter does"
    console.print(
        f"{release} is in {facts['out']} ({facts['dtype']}). Read by {facts['read_by']}, its log-probabilities differ from "
        f"the release's by {facts['mean_abs']:.2g} a token{does}.",
        highlight=False,
        soft_wrap=True,
    )
    if target is not None:
        console.print(f"Pushed as {facts['pushed']}", highlight=False, soft_wrap=True)


def _write(asked: Exported, chosen: Settings, quiet: bool) -> dict[str, Any]:
    from trimtab.exports.export import export as write

    with _bar(quiet) as bar:
        task = bar.add_task(f"exporting {asked.release['name']}", total=None)
        return write(
            asked,
            chosen,
            DataPaths(chosen.data.absolute()),
            lambda done, total, doing: bar.update(task, completed=done, total=total, description=doing),
        )


def _push(target: Target, out: str, release: str, quiet: bool) -> str:
    """Push and return the commit's address; where that fails, the folder stays as it is."""
    from trimtab.exports.push import push

    try:
        with _bar(quiet) as bar:
            bar.add_task(f"pushing to {target.name}", total=None)
            return push(Path(out), target, release)
    except ExportRefused as error:
        fail(f"{error}. The files are in {out}", 2)
    except KeyboardInterrupt:
        errors.print(f"interrupted while pushing; the files are in {out}", highlight=False)
        raise typer.Exit(INTERRUPTED) from None


def _bar(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=errors, transient=True, disable=quiet)
