"""Training runs and recipes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from trimtab_client.resources.base import Resource
from trimtab_client.sse import events
from trimtab_client.transport import given, path
from trimtab_client.types import Job, Plan, Run
from trimtab_client.values import GateMode, Method, Rollout, Rows, Start

_Runs = list[Run]


class Runs(Resource):
    """Plan, start and follow training runs."""

    async def create(
        self,
        method: Method,
        deployment: str | None = None,
        *,
        qlora: bool | None = None,
        recipe: str | None = None,
        params: Mapping[str, Any] | None = None,
        rollout: Rollout | None = None,
        gate: GateMode | None = None,
        start: Start | None = None,
    ) -> Run:
        """POST /api/runs; fields that are None get the platform's defaults."""
        body = _request(method, deployment, qlora, recipe, params, rollout, gate, start)
        run: Run = await self._http.post("/api/runs", body)
        return run

    async def plan(
        self,
        method: Method,
        deployment: str | None = None,
        *,
        qlora: bool | None = None,
        recipe: str | None = None,
        params: Mapping[str, Any] | None = None,
        rollout: Rollout | None = None,
        gate: GateMode | None = None,
        start: Start | None = None,
    ) -> Plan:
        """POST /api/runs/plan: the memory and time that such a run would need; starts nothing."""
        body = _request(method, deployment, qlora, recipe, params, rollout, gate, start)
        plan: Plan = await self._http.post("/api/runs/plan", body)
        return plan

    async def distil(self, body: Mapping[str, Any]) -> Job:
        """POST /api/runs/distil: learn to answer as a release with a system prompt does; a job that names its run."""
        job: Job = await self._http.post("/api/runs/distil", dict(body))
        return job

    async def schedule_preview(self, count: int | None = None) -> Rows:
        """GET /api/schedule/preview: what each schedule waits for, and its next `count` moments."""
        return list(await self._http.get("/api/schedule/preview", count=count) or ())

    async def recipes(self) -> Rows:
        """GET /api/recipes: `{name, method, qlora, about, values}` each."""
        return list(await self._http.get("/api/recipes") or ())

    async def list(self, limit: int | None = None) -> _Runs:
        """GET /api/runs, newest first."""
        return [*(await self._http.get("/api/runs", limit=limit) or ())]

    async def get(self, run: str) -> Run:
        """GET /api/runs/{id}."""
        found: Run = await self._http.get(path("api", "runs", run))
        return found

    async def metrics(self, run: str) -> Rows:
        """GET /api/runs/{id}/metrics: one row per logged step."""
        return [*(await self._http.get(path("api", "runs", run, "metrics")) or ())]

    async def events(self, run: str) -> AsyncGenerator[dict[str, Any], None]:
        """GET /api/runs/{id}/events: follow a run until it settles; each event has its name under `event`."""
        async with self._http.stream("GET", path("api", "runs", run, "events")) as response:
            async for event in events(response.aiter_lines()):
                yield {"event": event.event, **json.loads(event.data)}

    async def cancel(self, run: str) -> Run:
        """POST /api/runs/{id}/cancel: end a run within seconds; it can be resumed."""
        cancelled: Run = await self._http.post(path("api", "runs", run, "cancel"))
        return cancelled

    async def resume(self, run: str) -> Run:
        """POST /api/runs/{id}/resume: continue from the newest checkpoint."""
        resumed: Run = await self._http.post(path("api", "runs", run, "resume"))
        return resumed


def _request(
    method: str,
    deployment: str | None,
    qlora: bool | None,
    recipe: str | None,
    params: Mapping[str, Any] | None,
    rollout: str | None,
    gate: str | None,
    start: str | None,
) -> dict[str, Any]:
    fields = given(deployment=deployment, qlora=qlora, recipe=recipe, rollout=rollout, gate=gate, start=start)
    return {"method": method, **fields, **({} if params is None else {"params": dict(params)})}
