"""Pairs without people: ask for a job and follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from feedback_ui import texts
from trimtab_client import ApiError, AsyncClient
from trimtab_client.types import Job
from trimtab_client.values import JOB_UNDER_WAY

POLL_S = 0.5
KIND = "pairs.make"


async def make_pairs(
    client: AsyncClient, deployment: str, prompts: str, prefer: str, n: float
) -> AsyncGenerator[Job, None]:
    """Ask for pairs by a rule and yield the job until it ends; no prompts: those of traffic. Raises `ApiError`."""
    if not deployment:
        raise ApiError(422, "Invalid", texts.MAKE_NO_DEPLOYMENT, field="deployment")
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    body = {
        "deployment": deployment,
        "prompts": lines or None,
        "rules": {"prefer": prefer},
        "n": int(n),
    }
    job = await client.data.make_pairs(body)
    yield job
    async for now in follow(client, job["id"]):
        yield now


async def follow(client: AsyncClient, job_id: str) -> AsyncGenerator[Job, None]:
    """Yield a job again and again until it ends."""
    while True:
        job = await client.jobs.get(job_id)
        yield job
        if job["state"] not in JOB_UNDER_WAY:
            return
        await asyncio.sleep(POLL_S)


async def recent(client: AsyncClient, limit: int = 10) -> list[dict[str, Any]]:
    """Return the newest jobs of every kind; none where the platform has no jobs."""
    try:
        return [dict(job) for job in await client.jobs.list(limit=limit)]
    except ApiError as error:
        if error.status != 404:
            raise
        return []
