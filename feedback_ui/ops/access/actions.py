"""Users and API keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from feedback_ui import texts
from trimtab_client.client import ApiError, PlatformClient


@dataclass(frozen=True)
class Access:
    """Everybody who may sign in, every key, and what was used this month."""

    users: list[dict[str, Any]]
    keys: list[dict[str, Any]]
    usage: list[dict[str, Any]]
    erasures: list[dict[str, Any]]
    flagged: list[dict[str, Any]]

    def live_keys(self) -> list[tuple[str, str]]:
        """The keys that are not revoked, as (label, id)."""
        rows = [key for key in self.keys if not key.get("revoked_at")]
        return [(f"{key['name']} ({key['prefix']}…)", str(key["id"])) for key in rows]


async def access(client: PlatformClient) -> Access:
    """What the Access tab shows."""
    erased = dict(await client.request("GET", "/api/erasures") or {})
    return Access(
        list(await client.users_list() or ()),
        list(await client.keys_list() or ()),
        list(await client.usage() or ()),
        list(erased.get("erasures") or ()),
        list(erased.get("flagged") or ()),
    )


async def erase_person(client: PlatformClient, name: str, again: str) -> dict[str, Any]:
    """Forget a person's words and votes for good; refuses (422) unless the name was typed twice alike."""
    if not name.strip() or name.strip() != again.strip():
        raise ApiError(422, "Invalid", texts.ERASE_DIFFERS, field=texts.ERASE_NAME)
    return dict(await client.users_erase(name.strip()))


async def preview_erasure(client: PlatformClient, name: str) -> dict[str, Any]:
    """What forgetting a person would delete; nothing changes. Refuses (422) an empty name."""
    if not name.strip():
        raise ApiError(422, "Invalid", texts.ERASE_WHOM, field=texts.ERASE_NAME)
    return dict(await client.users_erase(name.strip(), dry_run=True))


async def add_user(client: PlatformClient, name: str, password: str, roles: list[str]) -> dict[str, Any]:
    """Add a user."""
    return dict(await client.users_add(name.strip(), roles, password))


async def remove_user(client: PlatformClient, name: str) -> None:
    """Take a user's access away."""
    await client.users_remove(name)


async def create_key(client: PlatformClient, name: str, roles: list[str]) -> dict[str, Any]:
    """Make a key; only this answer holds its secret."""
    return dict(await client.keys_create(name.strip(), roles))


async def revoke_key(client: PlatformClient, ident: str) -> None:
    """Revoke a key."""
    await client.keys_revoke(ident)
