"""`trimtab schedule preview`: what would start by itself, when and why."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from trimtab.cli.common import AsJson, DataOption, ask, console, show

app = typer.Typer(help="Runs that start by themselves.", no_args_is_help=True)


@app.command("preview")
def preview(
    count: Annotated[int, typer.Option(min=1, max=100, help="Moments per schedule.")] = 5,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Say what each schedule waits for, and when it would start a run next."""
    found = ask(lambda client: client.runs.schedule_preview(count), data)
    if as_json or not found:
        show(found, as_json, {}, "no schedule is on: set schedule.cron or schedule.every_pairs")
        return
    for plan in found:
        console.print(escape("\n".join(_lines(plan))), highlight=False)


def _lines(plan: dict[str, Any]) -> list[str]:
    from common.time_windows import time_zone

    zone = time_zone(plan["timezone"])

    def local(text: str) -> str:
        return datetime.fromisoformat(text).astimezone(zone).strftime("%a %Y-%m-%d %H:%M")

    head = f"{plan['name']}: {plan['method']} of {plan['deployment']}, {plan['new_rows']} new {plan['rows']}; {plan['says']}"
    lines = [
        f"  {local(at['starts_at'])}"
        + ("" if at["starts_at"] == at["moment"] else f" (for {local(at['moment'])})")
        for at in plan["planned"]
    ]
    return [head, *([f"  in {plan['timezone']}, if there are new rows then:", *lines] if lines else [])]
