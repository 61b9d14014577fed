"""`trimtab up | status | doctor | backup | restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from trimtab.cli import offline
from trimtab.cli.common import AsJson, ConfigOption, DataOption, ask, console, fail, paths, settings, show
from trimtab.config.paths import SETTINGS_FILE
from trimtab.errors import TrimtabError


def register(app: typer.Typer) -> None:
    """Add the commands to the top level."""
    app.command()(up)
    app.command()(status)
    app.command()(doctor)
    app.command()(backup)
    app.command()(restore)


def up(
    config: ConfigOption = None,
    data: DataOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
) -> None:
    """Start the platform: engines, gateway, operations API and UI. Ctrl-C stops every process that it started."""
    server = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    chosen = settings(config, data=data, server=server or None)
    from store.errors import StoreError
    from trimtab.server import up as serve  # the web stack: seconds to import, and no other command needs it

    try:
        serve(chosen, open_browser, config or SETTINGS_FILE)
    except (TrimtabError, StoreError) as error:
        fail(str(error))


def status(as_json: AsJson = False, data: DataOption = None) -> None:
    """Show engines, deployments, data and runs at a glance."""
    found = ask(lambda client: client.status(), data)
    if as_json:
        show(found, True)
        return
    ready = "[green]ready[/green]" if found["ready"] else "[yellow]not ready[/yellow]"
    console.print(f"Trimtab {found['version']} at {found['url']} ({found['mode']}): {ready}", highlight=False)
    for line in found["missing"]:
        console.print(f"  [yellow]{escape(line)}[/yellow]", highlight=False)
    console.print()
    show(
        found["engines"],
        False,
        {"name": "engine", "base": "base", "state": "state", "pid": "pid", "adapters": "adapters"},
    )
    for card in found.get("cards", ()):
        console.print(_describe_card(card), highlight=False, markup=False)
    console.print()
    show(
        found["deployments"],
        False,
        {
            "name": "deployment",
            "stable": "stable",
            "canary": "canary",
            "weight": "weight",
            "previous": "rolls back to",
        },
    )
    console.print()
    pairs, demonstrations = found["pairs"], found["demonstrations"]
    counts = f"{pairs['total']} pairs ({pairs['new']} new), {demonstrations['total']} demonstrations"
    runs = ", ".join(found["active_runs"]) or "none"
    console.print(f"{counts}; active runs: {runs}", highlight=False)
    for line in map(_schedule_line, found["schedules"]):
        console.print(escape(line), highlight=False)
    if left := [step for step in found.get("first_steps", ()) if not step["done"]]:
        console.print(f"first time through, next: {_step_line(left[0])}", highlight=False)


_STEPS = {
    "chat": "chat with a deployment (`trimtab chat`)",
    "rank": "rank answers, on the page /rank",
    "train": "train (`trimtab train dpo`)",
    "look": "read the report of an evaluation, on the page /ops, Releases",
    "roll_out": "give a release traffic (`trimtab rollout canary`)",
}


def _step_line(step: dict[str, Any]) -> str:
    """Return one line on a step of the first time through."""
    far = f", {step['have']} of {step['wanted']}" if step["wanted"] > 1 else ""
    return f"{_STEPS.get(step['name'], step['name'])}{far}"


def _schedule_line(plan: dict[str, Any]) -> str:
    """Return one line on a schedule: what it trains, when, and how many new rows there are."""
    every = f" of {plan['every_pairs']}" if plan["every_pairs"] else ""
    parts = [
        f"{plan['name']}: {plan['method']} of {plan['deployment']}",
        *([f"recipe {plan['recipe']}"] if plan["recipe"] else []),
        *([f"cron {plan['cron']}, next at {plan['next_at']}"] if plan["cron"] else []),
        f"{plan['new_rows']}{every} new {plan['rows']}",
    ]
    return ", ".join(parts)


def _describe_card(card: dict[str, Any]) -> str:
    """Return one line: the card, who holds its memory, and what is left."""
    held = "".join(
        f"{holder['name']} {'' if holder['measured'] else 'about '}{holder['bytes'] / 1e9:.1f} GB, "
        for holder in card["holders"]
    )
    return f"card {card['index']} ({card['name']}): {held}{card['free'] / 1e9:.1f} of {card['total'] / 1e9:.0f} GB free"


def doctor(as_json: AsJson = False, data: DataOption = None, config: ConfigOption = None) -> None:
    """Check this machine, the settings and the store; exit 1 when something is wrong."""
    from trimtab.doctor import examine

    found = examine(settings(config, data=data))
    if as_json:
        show([check.to_json() for check in found], True)
    else:
        for check in found:
            mark = "[green]ok[/green]  " if check.ok else "[red]bad[/red] "
            console.print(
                f"{mark} {escape(check.what)}: {escape(check.said)}", highlight=False, soft_wrap=True
            )
    if not all(check.ok for check in found):
        raise typer.Exit(1)


def backup(
    file: Annotated[Path, typer.Argument(help="A new file, on the platform's machine.")],
    data: DataOption = None,
) -> None:
    """Write a whole copy of the store, while the platform runs or without it."""
    where = paths(data)
    if where.read_platform() is not None:
        made: dict[str, Any] = ask(lambda client: client.admin.backup(str(file.absolute())), data)
        console.print(f"{made['path']}: {made['bytes']:,} bytes", markup=False)
        return
    path, size = offline.back_up(data, file)
    console.print(f"{path}: {size:,} bytes", markup=False)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `trimtab backup` wrote.")], data: DataOption = None
) -> None:
    """Put a backup in the store's place, checked first; the file that was there is kept beside it."""
    restored, kept = offline.restore(data, file)
    console.print(f"restored {restored} from {file}" + (f"; the file before is {kept}" if kept else ""))
