"""Ops, the platform at large: status, rollouts, releases, evaluations, the leaderboard, the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from feedback_ui.ops.overview.evidence import Drawn, mark
from feedback_ui.ops.releases.comparisons import KINDS
from trimtab_client import ApiError, AsyncClient
from trimtab_client.types import Evaluation, Job, Release
from trimtab_client.values import JOB_UNDER_WAY, includes

NO_ADAPTER = "none"
"""The choice of the base model alone."""


@dataclass(frozen=True)
class Standing:
    """Releases with their leaderboard and their evaluations, newest first."""

    releases: list[Release]
    leaderboard: list[dict[str, Any]]
    evaluations: list[Evaluation]
    comparisons: list[Job]
    branches: list[dict[str, Any]]


async def overview(client: AsyncClient) -> tuple[dict[str, Any], list[Release]]:
    """Return the platform's status and its releases."""
    return dict(await client.status()), await client.rollout.releases()


async def evidence(client: AsyncClient, deployments: list[dict[str, Any]], before: Drawn) -> Drawn:
    """Return the evidence over time of each canary; what has no further votes since `before` is not asked for again."""
    found = {}
    for row in deployments:
        if not (votes := mark(row)):
            continue
        key = f"{row['name']} {row['canary']}"
        known = before.get(row["name"])
        if known is None or known[:2] != (votes, key):
            known = (votes, key, await client.rollout.evidence(row["name"]))
        found[row["name"]] = known
    return found


async def start_canary(
    client: AsyncClient, deployment: str, release: str, percent: float, reason: str | None = None
) -> str:
    """Give a release `percent` (above 0, at most 100) of the traffic; returns what to tell the operator."""
    done = await client.rollout.canary(deployment, release, percent / 100, reason or None)
    return f"{done['canary']} now takes {done['weight']:.0%} of {deployment}."


async def promote(
    client: AsyncClient, deployment: str, release: str | None, reason: str | None = None
) -> str:
    """Make a release (or, without one, the canary) stable; returns what to tell the operator."""
    done = await client.rollout.promote(deployment, release, reason or None)
    return f"{done['stable']} is stable now: all of {deployment} is answered by it."


async def rollback(client: AsyncClient, deployment: str) -> str:
    """Undo the canary or the last promotion; returns what to tell the operator."""
    done = await client.rollout.rollback(deployment)
    return f"Rolled back: {deployment} is answered by {done['stable']}."


async def standing(client: AsyncClient) -> Standing:
    """Return what the Releases tab shows."""
    return Standing(
        await client.rollout.releases(),
        await client.preferences.leaderboard(),
        await client.rollout.evaluations(),
        await comparisons(client),
        await client.rollout.release_tree(),
    )


async def comparisons(client: AsyncClient) -> list[Job]:
    """Return the searches for prompts and the comparisons, newest first."""
    return [job for job in await client.jobs.list(limit=200) if job["kind"] in KINDS]


async def cancel_comparisons(client: AsyncClient) -> int:
    """Cancel the searches and comparisons that are queued or running; return how many."""
    under_way = [job for job in await comparisons(client) if job["state"] in JOB_UNDER_WAY]
    for job in under_way:
        await client.jobs.cancel(job["id"])
    return len(under_way)


async def create_release(
    client: AsyncClient, deployment: str, system_prompt: str, adapter_of: str | None
) -> Release:
    """Make a release with this system prompt and the adapter of another release, or of none; the rest is as in stable."""
    fields: dict[str, Any] = {}
    if prompt := system_prompt.strip():
        fields["system_prompt"] = prompt
    if adapter_of == NO_ADAPTER:
        fields["adapter"] = None
    elif adapter_of:
        source = await client.rollout.release(adapter_of)
        fields |= {"base": source["base"], "adapter": source["adapter"]}
    return await client.rollout.create_release(deployment, **fields)


async def evaluate(client: AsyncClient, release: str, against: str | None) -> Evaluation:
    """Queue an evaluation of a release, against another where one is named."""
    return await client.rollout.evaluate(release, against or None)


async def lineage(client: AsyncClient, release: str) -> dict[str, Any]:
    """Return what trained a release."""
    return dict(await client.rollout.lineage(release))


async def difference(client: AsyncClient, release: str, against: str) -> dict[str, Any]:
    """Return what changes from one release to another."""
    return dict(await client.rollout.release_diff(release, against))


async def audit(client: AsyncClient, /, limit: int = 200, **filters: str | None) -> list[dict[str, Any]]:
    """Return the audit log, newest first; a filter that is empty takes everything."""
    given = {name: value for name, value in filters.items() if value}
    return await client.admin.audit(limit, **given)


async def may_operate(client: AsyncClient) -> bool:
    """Return whether the caller has the role ops; asked once, so that a refused screen fires no further requests."""
    try:
        return includes((await client.whoami())["roles"], "ops")
    except ApiError:
        return False
