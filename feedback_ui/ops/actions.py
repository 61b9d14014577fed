"""Ops, the platform at large: status, rollouts, releases, evaluations, the leaderboard, the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trimtab_client.client import ApiError, PlatformClient

NO_ADAPTER = "none"
"""The choice of the base model alone."""


@dataclass(frozen=True)
class Standing:
    """Releases with their leaderboard and their evaluations, newest first."""

    releases: list[dict[str, Any]]
    leaderboard: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]


async def overview(client: PlatformClient) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The platform's status and its releases."""
    return dict(await client.status()), list(await client.releases_list())


async def start_canary(
    client: PlatformClient, deployment: str, release: str, percent: float, reason: str | None = None
) -> str:
    """Give a release `percent` (above 0, at most 100) of the traffic; returns what to tell the operator."""
    done = await client.canary(deployment, release, percent / 100, reason or None)
    return f"{done['canary']} now takes {done['weight']:.0%} of {deployment}."


async def promote(
    client: PlatformClient, deployment: str, release: str | None, reason: str | None = None
) -> str:
    """Make a release (or, without one, the canary) stable; returns what to tell the operator."""
    done = await client.promote(deployment, release, reason or None)
    return f"{done['stable']} is stable now: all of {deployment} is answered by it."


async def rollback(client: PlatformClient, deployment: str) -> str:
    """Undo the canary or the last promotion; returns what to tell the operator."""
    done = await client.rollback(deployment)
    return f"Rolled back: {deployment} is answered by {done['stable']}."


async def standing(client: PlatformClient) -> Standing:
    """What the Releases tab shows."""
    return Standing(
        list(await client.releases_list()),
        list(await client.leaderboard() or ()),
        list(await client.request("GET", "/api/evals") or ()),
    )


async def create_release(
    client: PlatformClient, deployment: str, system_prompt: str, adapter_of: str | None
) -> dict[str, Any]:
    """Make a release with this system prompt and the adapter of another release, or of none; the rest is as in stable."""
    fields: dict[str, Any] = {}
    if prompt := system_prompt.strip():
        fields["system_prompt"] = prompt
    if adapter_of == NO_ADAPTER:
        fields["adapter"] = None
    elif adapter_of:
        source = await client.releases_get(adapter_of)
        fields |= {"base": source["base"], "adapter": source["adapter"]}
    return dict(await client.releases_create(deployment, **fields))


async def evaluate(client: PlatformClient, release: str, against: str | None) -> dict[str, Any]:
    """Queue an evaluation of a release, against another where one is named."""
    return dict(await client.create_eval(release, against or None))


async def lineage(client: PlatformClient, release: str) -> dict[str, Any]:
    """What trained a release."""
    return dict(await client.lineage(release))


async def audit(client: PlatformClient, limit: int = 200) -> list[dict[str, Any]]:
    """Who did what, newest first."""
    return list(await client.audit(limit=limit) or ())


async def may_operate(client: PlatformClient) -> bool:
    """Whether the caller has the role ops; asked once so that a refused screen fires no further requests."""
    try:
        return "ops" in (await client.whoami()).get("roles", ())
    except ApiError:
        return False
