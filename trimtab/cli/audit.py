"""`trimtab audit`: who did what."""

from __future__ import annotations

from typing import Annotated

import typer

from trimtab.cli.common import AsJson, DataOption, ask, show


def register(app: typer.Typer) -> None:
    """Add the command to the top level."""
    app.command()(audit)


def audit(
    actor: Annotated[str | None, typer.Option(help="By this person or key, or platform.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Such as release.create, or release for all that begin so.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Of this release, run, row, person or key.")] = None,
    text: Annotated[str | None, typer.Option(help="With this in any field, in any case.")] = None,
    since: Annotated[str | None, typer.Option(help="From this time on, ISO 8601.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time, ISO 8601.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most entries.")] = 50,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Show who did what, newest first."""
    filters = {
        "actor": actor, "action": action, "subject": subject, "text": text, "since": since, "until": until,
    }  # fmt: skip
    rows = ask(lambda client: client.admin.audit(limit, **filters), data)
    columns = {
        "created_at": "when",
        "actor": "who",
        "action": "what",
        "subject": "subject",
        "detail": "detail",
    }
    show(rows, as_json, columns)
