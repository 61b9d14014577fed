"""`trimtab releases …`, `trimtab rollout …` and `trimtab eval`."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli.common import AsJson, DataOption, ask, console, fail, show
from trimtab.cli.releases.comparison import (
    HtmlOption,
    RequestsOption,
    RulesOption,
    given,
    read_rules,
    read_texts,
    show_comparison,
)

if TYPE_CHECKING:
    from trimtab_client import AsyncClient
    from trimtab_client.types import Deployment, Evaluation, Release

releases_app = typer.Typer(
    help="Releases: base model, adapter, system prompt, sampling.", no_args_is_help=True
)
rollout_app = typer.Typer(help="Where a deployment's traffic goes.", no_args_is_help=True)


@releases_app.command("list")
def list_releases(deployment: str | None = None, as_json: AsJson = False, data: DataOption = None) -> None:
    """List releases, newest first."""
    rows = ask(lambda client: client.rollout.releases(deployment), data)
    columns = {
        "name": "release",
        "lane": "lane",
        "base": "base",
        "adapter": "adapter",
        "run": "run",
        "created_at": "made",
    }
    show(rows, as_json, columns)


@releases_app.command("show")
def show_release(release: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """Show one release, by `assistant@3` or its id."""
    show(ask(lambda client: client.rollout.release(release), data), as_json)


@releases_app.command("create")
def create_release(
    deployment: str,
    adapter: Annotated[
        str | None, typer.Option(help="An adapter's id or a PEFT directory; none for none.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="A base model.")] = None,
    system_prompt: Annotated[str | None, typer.Option(help="System prompt; none for no prompt.")] = None,
    sampling: Annotated[str | None, typer.Option(help="Sampling defaults as JSON; none for none.")] = None,
    chat_template_kwargs: Annotated[
        str | None,
        typer.Option(
            help="Arguments of the chat template as JSON, such as '{\"enable_thinking\": false}'; none for none."
        ),
    ] = None,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Make a release without traffic: a new prompt, a new adapter, or both; the rest comes from stable."""
    if adapter and Path(adapter).is_dir():
        adapter = str(Path(adapter).absolute())
    fields = {
        "adapter": adapter,
        "base": base,
        "system_prompt": system_prompt,
        "sampling": _json("--sampling", sampling),
        "chat_template_kwargs": _json("--chat-template-kwargs", chat_template_kwargs),
    }
    given = {name: value for name, value in fields.items() if value is not None}
    made = ask(lambda client: client.rollout.create_release(deployment, **given), data)
    if as_json:
        show(made, True)
    else:
        console.print(
            f"{made['name']} is there, without traffic: `trimtab rollout canary {deployment} {made['name']}`"
        )
        console.print(_origin(made), highlight=False, soft_wrap=True)
        if note := (made.get("parity") or {}).get("note"):
            console.print(f"Parity: {note}", highlight=False, soft_wrap=True)


def _json(option: str, value: str | None) -> Any:
    """Return the value of an option that takes JSON; `none` as it is."""
    if value is None or value.strip().lower() == "none":
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        fail(f"{option} is not JSON: {error}; accepted: an object, or none", 2)


def _origin(made: Release) -> str:
    """Return what the release has, and what of it came from the stable release."""
    fields = {
        "adapter": made["adapter"],
        "system_prompt": made["system_prompt"],
        "sampling": made["sampling"],
        "chat_template_kwargs": made["chat_template_kwargs"],
    }
    parts = []
    for field, value in fields.items():
        word = field.replace("_", " ")
        shown = json.dumps(value) if isinstance(value, dict) and value else value or "none"
        from_stable = field in (made.get("inherited") or ())
        parts.append(f"{word} {shown}" + (f" (from {made['inherited_from']})" if from_stable else ""))
    return "\n".join(("It has:", *(f"  {part}" for part in parts)))


@releases_app.command("compare")
def compare_releases(
    deployment: Annotated[str, typer.Argument(help="A deployment.")] = "assistant",
    releases: Annotated[
        list[str] | None,
        typer.Argument(
            help="Its releases to compare; default: the newest with a prompt, with examples, with an adapter."
        ),
    ] = None,
    suite: Annotated[
        str, typer.Option(help="quick, default, full, or the path of a .toml file.")
    ] = "default",
    rules: RulesOption = None,
    requests: RequestsOption = None,
    requests_per_day: Annotated[
        float | None, typer.Option(min=1, help="Requests per day, for the cost; default: 1000.")
    ] = None,
    html: HtmlOption = None,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Compare base model, prompt, examples and adapter on one suite, and recommend the cheapest that passes."""
    fields = {
        "releases": releases or None,
        "suite": suite,
        "rules": read_rules(rules),
        "requests": read_texts("--requests", requests),
        "requests_per_day": requests_per_day,
    }
    show_comparison(
        lambda client: client.rollout.compare_releases(deployment, **given(fields)), html, as_json, data
    )


@releases_app.command("lineage")
def lineage(release: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """Show what a release learned from: run, snapshot, pairs, raters, prompts."""
    show(ask(lambda client: client.rollout.lineage(release), data), as_json)


@releases_app.command("tree")
def tree(deployment: str | None = None, as_json: AsJson = False, data: DataOption = None) -> None:
    """Show what each release was made from: a prompt's change, training, or a combination; oldest first."""
    rows = ask(lambda client: client.rollout.release_tree(deployment), data)
    show(rows, as_json, {"release": "release", "made_by": "made by", "parents": "from"})


@releases_app.command("diff")
def diff(
    release: Annotated[str, typer.Argument(help="Such as assistant@4.")],
    against: Annotated[str, typer.Argument(help="The release to compare it with.")],
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Show what changes from AGAINST to RELEASE: configuration, training, system prompt."""
    found = ask(lambda client: client.rollout.release_diff(release, against), data)
    if as_json:
        show(found, True)
        return
    columns = {"name": "field", "before": found["against"], "after": found["release"]}
    show([{key: _shown(value) for key, value in row.items()} for row in found["fields"]], False, columns)
    for line in found["prompt"]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


ReasonOption = Annotated[
    str | None, typer.Option(help="Why, for a release that its gate rejected; goes to the audit log.")
]


@rollout_app.command("evidence")
def evidence(deployment: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """Show what the canary's votes proved after each of them, oldest first."""
    rows = ask(lambda client: client.rollout.evidence(deployment), data)
    columns = {
        "at": "when", "votes": "votes", "win_rate": "win rate", "low": "from", "high": "to",
        "evidence_for": "better", "evidence_against": "worse",
    }  # fmt: skip
    show(rows, as_json, columns)


@rollout_app.command("canary")
def canary(
    deployment: str,
    release: str,
    weight: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the traffic.")] = 0.1,
    reason: ReasonOption = None,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Give a release a share of the traffic."""
    _say(ask(lambda client: client.rollout.canary(deployment, release, weight, reason), data), as_json)


@rollout_app.command("promote")
def promote(
    deployment: str,
    release: Annotated[str | None, typer.Argument(help="Default: the canary.")] = None,
    reason: ReasonOption = None,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Make the canary (or a release) stable."""
    _say(ask(lambda client: client.rollout.promote(deployment, release, reason), data), as_json)


@rollout_app.command("rollback")
def rollback(deployment: str, as_json: AsJson = False, data: DataOption = None) -> None:
    """End the canary, or go back to the stable release before this one."""
    _say(ask(lambda client: client.rollout.rollback(deployment), data), as_json)


def _say(deployment: Deployment, as_json: bool) -> None:
    if as_json:
        show(deployment, True)
        return
    canary = f", canary {deployment['canary']} at {deployment['weight']:.0%}" if deployment["canary"] else ""
    console.print(f"{deployment['name']}: stable {deployment['stable']}{canary}", highlight=False)


def evaluate(
    release: Annotated[
        str,
        typer.Argument(help="A release, such as `assistant@3`; with --people also a deployment: its canary."),
    ],
    against: Annotated[
        str | None, typer.Option(help="Another release to compare with; with --people stable by default.")
    ] = None,
    suite: Annotated[
        str, typer.Option(help="Suite of measurements: quick, default, full, or the path of a .toml file.")
    ] = "default",
    people: Annotated[
        int, typer.Option(min=0, max=1000, help="Pairs of answers that people compare blind in Rank.")
    ] = 0,
    report: Annotated[
        Path | None, typer.Option(help="Write the report to this file, .html or .md by its ending.")
    ] = None,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Measure a release over the newest held-out data."""

    from common.files import write_atomic
    from trimtab.config.writing import writing
    from trimtab_client.values import EVALUATION_UNDER_WAY

    form = report.suffix.removeprefix(".") if report else ""
    if report and (form not in ("html", "md") or not report.absolute().parent.is_dir()):
        fail(f"--report {report}: accepted is a file in a folder that exists, ending in .html or .md")

    async def wait(client: AsyncClient) -> Evaluation:
        evaluation = await client.rollout.evaluate(release, against, suite, people or None)
        with console.status(f"measuring {release}") if not as_json else nullcontext() as status:
            while evaluation["state"] in EVALUATION_UNDER_WAY:
                await asyncio.sleep(0.5)
                evaluation = await client.rollout.evaluation(evaluation["id"])
                if status is not None and (at := evaluation.get("progress")):
                    left = f"about {at['seconds_left']:.0f} s left"
                    status.update(f"measuring {release}: {at['done']} of {at['total']} requests, {left}")
        if report and evaluation["state"] == "done":
            text = await client.rollout.evaluation_report(evaluation["id"], form)
            with writing(report.absolute()):
                await asyncio.to_thread(write_atomic, report, text.encode())
        return evaluation

    found = ask(wait, data)
    show(found, as_json)
    if found["state"] != "done":
        raise typer.Exit(1)
