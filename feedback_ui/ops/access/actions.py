"""Users and API keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from feedback_ui import texts
from trimtab_client import ApiError, AsyncClient
from trimtab_client.types import Key, User


@dataclass(frozen=True)
class Access:
    """Everybody who may sign in, every key, and what was used this month."""

    users: list[User]
    keys: list[Key]
    usage: list[dict[str, Any]]
    erasures: list[dict[str, Any]]
    flagged: list[dict[str, Any]]

    def live_keys(self) -> list[tuple[str, str]]:
        """Return the keys that are not revoked, as (label, id)."""
        rows = [key for key in self.keys if not key.get("revoked_at")]
        return [(f"{key['name']} ({key['prefix']}…)", str(key["id"])) for key in rows]


async def access(client: AsyncClient) -> Access:
    """Return what the Access tab shows."""
    erased = dict(await client.admin.erasures() or {})
    return Access(
        await client.admin.users(),
        await client.admin.keys(),
        await client.admin.usage(),
        list(erased.get("erasures") or ()),
        list(erased.get("flagged") or ()),
    )


async def erase_person(client: AsyncClient, name: str, again: str) -> dict[str, Any]:
    """Erase a person's words and votes for good; refuses (422) unless the name was typed twice alike."""
    if not name.strip() or name.strip() != again.strip():
        raise ApiError(422, "Invalid", texts.ERASE_DIFFERS, field=texts.ERASE_NAME)
    return dict(await client.admin.erase_user(name.strip()))


async def preview_erasure(client: AsyncClient, name: str) -> dict[str, Any]:
    """Return the rows that erasing a person would delete; nothing changes. Refuses (422) an empty name."""
    if not name.strip():
        raise ApiError(422, "Invalid", texts.ERASE_WHOM, field=texts.ERASE_NAME)
    return dict(await client.admin.erase_user(name.strip(), dry_run=True))


async def add_user(client: AsyncClient, name: str, password: str, roles: list[str]) -> User:
    """Add a user."""
    return await client.admin.add_user(name.strip(), roles, password)


async def remove_user(client: AsyncClient, name: str) -> None:
    """Take a user's access away."""
    await client.admin.remove_user(name)


async def create_key(client: AsyncClient, name: str, roles: list[str]) -> Key:
    """Make a key; only this answer holds its secret."""
    return await client.admin.create_key(name.strip(), roles)


async def revoke_key(client: AsyncClient, ident: str) -> None:
    """Revoke a key."""
    await client.admin.revoke_key(ident)
