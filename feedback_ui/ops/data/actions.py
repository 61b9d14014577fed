"""Training data: what there is, and questions to measure raters by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from feedback_ui import texts
from trimtab_client import ApiError, AsyncClient


@dataclass(frozen=True)
class Holdings:
    """The newest pairs and demonstrations, and the counts that the platform keeps."""

    pairs: list[dict[str, Any]]
    demonstrations: list[dict[str, Any]]
    pair_stats: dict[str, Any]
    demonstration_stats: dict[str, Any]
    snapshots: list[dict[str, Any]]
    raters: list[dict[str, Any]]
    agreement: dict[str, Any]
    deployments: list[str]


async def holdings(client: AsyncClient, limit: int = 25) -> Holdings:
    """Return what the Data tab shows."""
    return Holdings(
        list(await client.data.pairs(limit=limit) or ()),
        list(await client.data.demonstrations(limit=limit) or ()),
        dict(await _offered(client, "/api/pairs/stats") or {}),
        dict(await _offered(client, "/api/demonstrations/stats") or {}),
        list(await _offered(client, "/api/snapshots") or ()),
        list(await _offered(client, "/api/raters") or ()),
        dict(await _offered(client, "/api/raters/agreement") or {}),
        [row["name"] for row in await client.rollout.deployments()],
    )


async def add_gold(
    client: AsyncClient, question: str, good: str, bad: str, deployment: str | None
) -> dict[str, Any]:
    """Put a question whose answer is known into the raters' queue; refuses (422) what is left empty."""
    for label, text in ((texts.GOLD_QUESTION, question), (texts.GOLD_GOOD, good), (texts.GOLD_BAD, bad)):
        if not text.strip():
            raise ApiError(422, "Invalid", f"{label} is empty", field=label)
    messages = [{"role": "user", "content": question.strip()}]
    return dict(
        await client.preferences.add_gold(messages, good.strip(), bad.strip(), deployment=deployment or None)
    )


async def _offered(client: AsyncClient, path: str) -> Any:
    """Return the answer of a route that a platform may not have; None where it is missing."""
    try:
        return await client.request("GET", path)
    except ApiError as error:
        if error.status != 404:
            raise
        return None
