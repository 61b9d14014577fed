"""`trimtab usage`: who used how much, and what is left of the budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from trimtab.cli.common import AsJson, DataOption, ask, show

COLUMNS = {
    "name": "name",
    "kind": "kind",
    "requests": "requests",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "completion tokens",
    "today": "left today",
    "month": "left this month",
}


def register(app: typer.Typer) -> None:
    """Add the command to the top level."""
    app.command()(usage)


def usage(
    since: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD; default: the month's.")] = None,
    until: Annotated[str | None, typer.Option(help="Last day, YYYY-MM-DD; default: today.")] = None,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Show requests and tokens of each user and key by calendar days in UTC, and what is left of their budgets."""
    rows = ask(lambda client: client.admin.usage(since, until), data)
    if not as_json:
        rows = [row | {"today": _left(row["today"]), "month": _left(row["month"])} for row in rows]
    show(rows, as_json, COLUMNS, "nothing was used")


def _left(spent: Mapping[str, Any]) -> str | None:
    """Return what may still be used, None without a budget."""
    left = [
        f"{max(0, budget - spent[what]):,} {what}"
        for what in ("requests", "tokens")
        if (budget := spent[f"{what}_budget"]) is not None
    ]
    return ", ".join(left) or None
