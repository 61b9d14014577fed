"""`trimtab keys …` and `trimtab users …`; they work without a running platform too, since one may refuse to start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.cli import offline
from trimtab.cli.common import AsJson, DataOption, ask, console, errors, fail, show
from trimtab.cli.offline import running

keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
users_app = typer.Typer(help="People who sign in.", no_args_is_help=True)

Roles = Annotated[
    list[str] | None, typer.Option("--role", help="chat, rater or ops; may be given several times.")
]

_RUNS = {
    "runs": "runs whose data held rows of theirs",
    "stopped": "runs that were stopped, since they were to learn from them; ask for them anew",
}
"""Lists of runs in the result of an erasure, and the words for them."""


@keys_app.command("create")
def create_key(
    name: str,
    role: Roles = None,
    user: Annotated[str | None, typer.Option("--user", help="The person whom the key speaks for.")] = None,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Record the chat requests that are made with it.")
    ] = True,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Make an API key for a program; its secret is shown once, now. People who sign in are `trimtab users add`."""
    roles = role or ["chat"]
    if running(data):
        made: Mapping[str, Any] = ask(
            lambda client: client.admin.create_key(name, roles, user, store=store), data
        )
    else:
        made = offline.create_key(data, name, roles, user, store)
    if as_json:
        show(made, True)
        return
    _notice(made)
    console.print(f"{made['secret']}", highlight=False, soft_wrap=True)
    console.print(f"[dim]key {made['id']} ({', '.join(made['roles'])}); the secret is not shown again[/dim]")


def _notice(made: Mapping[str, Any]) -> None:
    if notice := made.get("notice"):
        errors.print(f"[yellow]{notice}[/yellow]", highlight=False, soft_wrap=True)


@keys_app.command("list")
def list_keys(as_json: AsJson = False, data: DataOption = None) -> None:
    """List API keys without their secrets."""
    rows: Sequence[Mapping[str, Any]] = (
        ask(lambda client: client.admin.keys(), data) if running(data) else offline.list_keys(data)
    )
    columns = {
        "id": "id",
        "name": "name",
        "prefix": "starts with",
        "roles": "roles",
        "store": "stores",
        "revoked_at": "revoked",
    }
    show(rows, as_json, columns, "no keys")


@keys_app.command("revoke")
def revoke_key(key_id: str, data: DataOption = None) -> None:
    """Revoke a key at once."""
    if running(data):
        ask(lambda client: client.admin.revoke_key(key_id), data)
    else:
        offline.revoke_key(data, key_id)
    console.print(f"{key_id} is revoked")


@users_app.command("add")
def add_user(
    name: str,
    role: Roles = None,
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, envvar="TRIMTAB_PASSWORD")
    ] = "",
    data: DataOption = None,
) -> None:
    """Add a person who may sign in."""
    roles = role or ["chat", "rater"]
    if running(data):
        made: Mapping[str, Any] = ask(lambda client: client.admin.add_user(name, roles, password), data)
    else:
        made = offline.create_user(data, name, roles, password)
    console.print(f"{name} may sign in ({', '.join(roles)})")
    _notice(made)


@users_app.command("list")
def list_users(as_json: AsJson = False, data: DataOption = None) -> None:
    """Everybody who may sign in."""
    rows: Sequence[Mapping[str, Any]] = (
        ask(lambda client: client.admin.users(), data) if running(data) else offline.list_users(data)
    )
    show(rows, as_json, {"name": "name", "roles": "roles", "created_at": "since"}, "nobody: single-user mode")


@users_app.command("remove")
def remove_user(name: str, data: DataOption = None) -> None:
    """Take a person's access away."""
    if running(data):
        ask(lambda client: client.admin.remove_user(name), data)
    else:
        offline.remove_user(data, name)
    console.print(f"{name} may no longer sign in")


@users_app.command("erase")
def erase_user(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and leave it.")] = False,
    data: DataOption = None,
) -> None:
    """Erase a person: their words and votes are deleted for good; shows first what, and which releases learned from it."""
    if not yes or dry_run:
        found = _erase(data, name, dry_run=True)
        _print_removed(found, f"erasing {name} would delete")
        if dry_run:
            return
        typer.confirm(f"Erase {name}? This cannot be undone", abort=True)
    _print_removed(_erase(data, name), f"{name} is erased, with")


@users_app.command("share")
def share(
    wanted: Annotated[
        str | None,
        typer.Argument(
            metavar="[none|show|train|default]",
            help="none: nothing; show: raters may see them; train: raters may see them, and models may learn from them; "
            "default: what the setting privacy.share says. Without it, show what holds.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--user", help="A person, such as one of a front end; default: the caller.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List who chose what.")] = False,
    as_json: AsJson = False,
    data: DataOption = None,
) -> None:
    """Say what may be done with somebody's conversations, or show what was chosen."""
    from trimtab_client.values import SHARES

    if wanted not in (None, "default", *SHARES):
        fail(f"{wanted} is not accepted; accepted: {', '.join(SHARES)}, default", 2)
    if wanted is None and (every or name is not None):
        rows = ask(lambda client: client.admin.shares(), data)
        named = [row for row in rows if every or row["name"] == name]
        columns = {"name": "name", "share": "share"}
        show(named, as_json, columns, "nobody chose: the setting privacy.share holds")
        return
    chosen = next((known for known in SHARES if known == wanted), None)
    if wanted is None:
        shared = ask(lambda client: client.chat.shared(), data)
    elif name is None:
        shared = ask(lambda client: client.chat.set_share(chosen), data)
    else:
        shared = ask(lambda client: client.admin.set_share_of(name, chosen), data)
    show(shared, as_json)


def _erase(data: Path | None, name: str, dry_run: bool = False) -> Any:
    if running(data):
        return ask(lambda client: client.admin.erase_user(name, dry_run=dry_run), data)
    return offline.erase_user(data, name, dry_run)


def _print_removed(done: dict[str, Any], heading: str) -> None:
    removed = ", ".join(f"{count} {noun}" for noun, count in done["removed"].items() if count)
    console.print(f"{heading}: {removed or 'nothing'}", highlight=False)
    if others := ", ".join(f"{count} {noun}" for noun, count in done.get("of_others", {}).items() if count):
        console.print(f"of these, other people gave {others}", highlight=False)
    for release in done["releases"]:
        console.print(f"[yellow]{release['ref']} learned from them; the next run starts without it[/yellow]")
    for part, said in _RUNS.items():
        if runs := done.get(part):
            console.print(f"[yellow]{said}: {', '.join(runs)}[/yellow]", highlight=False, soft_wrap=True)
