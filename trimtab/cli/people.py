"""`trimtab keys …` and `trimtab users …`; they work without a running platform too, since one may refuse to start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli.common import AsJson, DataOption, ask, console, errors, paths, show
from trimtab.cli.offline import opened, running

if TYPE_CHECKING:
    from store.db.database import Store

keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
users_app = typer.Typer(help="People who sign in.", no_args_is_help=True)

Roles = Annotated[
    list[str] | None, typer.Option("--role", help="chat, rater or ops; may be given several times.")
]

_RUNS = {
    "runs": "runs whose data held rows of theirs",
    "stopped": "runs that were stopped, since they were to learn from them; ask for them anew",
}
"""What an erasure says of runs, and how that is told."""


def _in_store(data: Path | None, function: Callable[..., Any], *args: Any, make: bool = False) -> Any:
    with opened(data, make) as store:
        return function(store, *args)


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
        made = ask(lambda client: client.keys_create(name, roles, user, store=store), data)
    else:
        made = _in_store(data, _create_key, name, roles, user, store, make=True)
    if as_json:
        show(made, True)
        return
    _notice(made)
    console.print(f"{made['secret']}", highlight=False, soft_wrap=True)
    console.print(f"[dim]key {made['id']} ({', '.join(made['roles'])}); the secret is not shown again[/dim]")


def _create_key(db: Store, name: str, roles: list[str], user: str | None, store: bool) -> dict[str, Any]:
    from store.accounts import keys
    from trimtab.web import access_notice

    key, secret = keys.create(db, name, roles, user, stores=store)
    made = {"id": key.id, "name": key.name, "roles": list(key.roles), "user": key.user, "store": store}
    return made | {"secret": secret, "notice": access_notice.of_key(db)}


def _notice(made: dict[str, Any]) -> None:
    if notice := made.get("notice"):
        errors.print(f"[yellow]{notice}[/yellow]", highlight=False, soft_wrap=True)


@keys_app.command("list")
def list_keys(as_json: AsJson = False, data: DataOption = None) -> None:
    """List API keys without their secrets."""
    from store.accounts import keys

    rows = (
        ask(lambda client: client.keys_list(), data)
        if running(data)
        else [
            key.to_json() | {"prefix": key.hint, "store": key.stores}
            for key in _in_store(data, keys.list_all)
        ]
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
    from store.accounts import keys

    if running(data):
        ask(lambda client: client.keys_revoke(key_id), data)
    else:
        _in_store(data, keys.revoke, key_id)
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
        made = ask(lambda client: client.users_add(name, roles, password), data)
    else:
        made = _in_store(data, _create_user, name, roles, password, make=True)
    console.print(f"{name} may sign in ({', '.join(roles)})")
    _notice(made)


def _create_user(db: Store, name: str, roles: list[str], password: str) -> dict[str, Any]:
    from store.accounts import users
    from trimtab.web import access_notice

    made = users.create(db, name, roles, password)
    return made.to_json() | {"notice": access_notice.of_user(db)}


@users_app.command("list")
def list_users(as_json: AsJson = False, data: DataOption = None) -> None:
    """Everybody who may sign in."""
    from store.accounts import users

    rows = (
        ask(lambda client: client.users_list(), data)
        if running(data)
        else [user.to_json() for user in _in_store(data, users.list_all)]
    )
    show(rows, as_json, {"name": "name", "roles": "roles", "created_at": "since"}, "nobody: single-user mode")


@users_app.command("remove")
def remove_user(name: str, data: DataOption = None) -> None:
    """Take a person's access away."""
    from store.accounts import users

    if running(data):
        ask(lambda client: client.users_remove(name), data)
    else:
        _in_store(data, users.remove, name)
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
        _say_what_goes(found, f"to forget {name} would delete")
        if dry_run:
            return
        typer.confirm(f"Forget {name}? What is erased can not be brought back", abort=True)
    _say_what_goes(_erase(data, name), f"{name} is forgotten, with")


def _erase(data: Path | None, name: str, dry_run: bool = False) -> Any:
    if running(data):
        return ask(lambda client: client.users_erase(name, dry_run=dry_run), data)
    from trimtab import erasure

    if dry_run:
        return _in_store(data, erasure.preview, name)
    return _in_store(data, erasure.erase_offline, paths(data), name, "operator")


def _say_what_goes(done: dict[str, Any], said_first: str) -> None:
    removed = ", ".join(f"{count} {noun}" for noun, count in done["removed"].items() if count)
    console.print(f"{said_first}: {removed or 'nothing'}", highlight=False)
    if others := ", ".join(f"{count} {noun}" for noun, count in done.get("of_others", {}).items() if count):
        console.print(f"of these, other people gave {others}", highlight=False)
    for release in done["releases"]:
        console.print(f"[yellow]{release['ref']} learned from them; the next run starts without it[/yellow]")
    for part, said in _RUNS.items():
        if runs := done.get(part):
            console.print(f"[yellow]{said}: {', '.join(runs)}[/yellow]", highlight=False, soft_wrap=True)
