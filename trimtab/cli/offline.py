"""The store without a running platform, for commands that must work before one starts or when none does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.cli.common import address, fail, paths
from trimtab.errors import PlatformNotFound, StoreNotFound, TrimtabError

if TYPE_CHECKING:
    from store.db.database import Store


def running(data: Path | None) -> bool:
    """Return whether a platform answers for this data directory, or is named by `TRIMTAB_URL`."""
    try:
        address(data)
    except PlatformNotFound:
        return False
    return True


@contextmanager
def opened(data: Path | None, make: bool = False) -> Iterator[Store]:
    """Open the store of a data directory; only with `make` is one created where there is none.

    Failures end the command with their reason, those of what is done inside too.
    """
    from store.db.database import Store  # DuckDB: no command that finds a platform needs it
    from store.errors import StoreError
    from trimtab.config.writing import writing

    where = paths(data)
    try:
        with writing(where.root):
            if make:
                where.make()
            elif not where.store.is_file():
                raise StoreNotFound(
                    f"no store in {where.root}: `trimtab up` makes one; --data names another directory"
                )
            store = Store.open(where.store)
        with store:
            yield store
    except (StoreError, TrimtabError) as error:
        fail(str(error))


def create_key(
    data: Path | None, name: str, roles: list[str], user: str | None, store: bool
) -> dict[str, Any]:
    """Create an API key as `POST /api/keys` does."""
    from store.accounts import keys
    from trimtab.web import access_notice

    with opened(data, make=True) as db:
        key, secret = keys.create(db, name, roles, user, stores=store)
        made = {"id": key.id, "name": key.name, "roles": list(key.roles), "user": key.user, "store": store}
        return made | {"secret": secret, "notice": access_notice.of_key(db)}


def list_keys(data: Path | None) -> list[dict[str, Any]]:
    """List API keys as `GET /api/keys` does."""
    from store.accounts import keys

    with opened(data) as db:
        return [key.to_json() | {"prefix": key.hint, "store": key.stores} for key in keys.list_all(db)]


def revoke_key(data: Path | None, key_id: str) -> None:
    """Revoke an API key."""
    from store.accounts import keys

    with opened(data) as db:
        keys.revoke(db, key_id)


def create_user(data: Path | None, name: str, roles: list[str], password: str) -> dict[str, Any]:
    """Create a user as `POST /api/users` does."""
    from store.accounts import users
    from trimtab.web import access_notice

    with opened(data, make=True) as db:
        return users.create(db, name, roles, password).to_json() | {"notice": access_notice.of_user(db)}


def list_users(data: Path | None) -> list[dict[str, Any]]:
    """List users as `GET /api/users` does."""
    from store.accounts import users

    with opened(data) as db:
        return [user.to_json() for user in users.list_all(db)]


def remove_user(data: Path | None, name: str) -> None:
    """Remove a user."""
    from store.accounts import users

    with opened(data) as db:
        users.remove(db, name)


def erase_user(data: Path | None, name: str, dry_run: bool) -> dict[str, Any]:
    """Erase a person as `POST /api/users/{name}/erase` does."""
    from trimtab import erasure

    with opened(data) as db:
        done = (
            erasure.preview(db, name) if dry_run else erasure.erase_offline(db, paths(data), name, "operator")
        )
        return dict(done)


def delete_unused_deployments(data: Path | None, base: str) -> None:
    """Delete the deployments of a base model, or end the command where one is in use."""
    from trimtab.live_models import delete_unused

    if paths(data).store.is_file():
        with opened(data) as db:
            delete_unused(db, base, "operator")


def back_up(data: Path | None, file: Path) -> tuple[str, int]:
    """Write a backup of the store; return its path and size in bytes."""
    from store.maintenance.backup import write
    from trimtab.config.writing import writing

    with opened(data) as store, writing(file.absolute()):
        done = write(store, file)
    return done.path, done.bytes


def restore(data: Path | None, file: Path) -> tuple[str, str | None]:
    """Replace the store by a backup; return its path and that of the store that was there."""
    from store.errors import StoreError
    from store.maintenance.backup import restore as put_back
    from trimtab.config.writing import writing

    where = paths(data)
    if where.read_platform() is not None:
        fail(f"a platform runs on {where.root}: stop it first")
    try:
        with writing(where.store):
            done = put_back(file, where.store)
    except (StoreError, TrimtabError) as error:
        fail(str(error))
    return done.path, done.kept
