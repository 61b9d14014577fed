"""Releases, deployments, adapters and evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab_client.resources.base import Resource
from trimtab_client.transport import given, path
from trimtab_client.types import Deployment, Evaluation, Job, Release
from trimtab_client.values import Json, Rows


class Rollout(Resource):
    """Move traffic between releases, and measure them."""

    async def releases(self, deployment: str | None = None) -> list[Release]:
        """GET /api/releases, newest first."""
        return list(await self._http.get("/api/releases", deployment=deployment) or ())

    async def release(self, ref: str) -> Release:
        """GET /api/releases/{ref}, `assistant@3` or a record id."""
        found: Release = await self._http.get(path("api", "releases", ref))
        return found

    async def create_release(self, /, deployment: str, **fields: Any) -> Release:
        """POST /api/releases; base, adapter, prompt, sampling, template arguments that `fields` omit come from stable."""
        made: Release = await self._http.post("/api/releases", {"deployment": deployment, **fields})
        return made

    async def blend_releases(self, /, releases: Mapping[str, float], **fields: Any) -> Release:
        """POST /api/releases/blend: combine adapters of releases by weight (combination, rank, density, seed)."""
        parts = [{"release": release, "weight": weight} for release, weight in releases.items()]
        made: Release = await self._http.post("/api/releases/blend", {"releases": parts, **fields})
        return made

    async def lineage(self, ref: str) -> Json:
        """GET /api/releases/{ref}/lineage: the run, snapshot and rows that a release learned from."""
        return await self._http.get(path("api", "releases", ref, "lineage"))

    async def release_tree(self, deployment: str | None = None) -> Rows:
        """GET /api/releases/tree, oldest first: `{release, made_by, parents}`."""
        return list(await self._http.get("/api/releases/tree", deployment=deployment) or ())

    async def release_diff(self, ref: str, against: str) -> Json:
        """GET /api/releases/{ref}/diff/{against}: what changes from `against` to `ref`."""
        return await self._http.get(path("api", "releases", ref, "diff", against))

    async def base_models(self) -> Rows:
        """GET /api/models: base models, their engines and deployments."""
        return list(await self._http.get("/api/models") or ())

    async def add_base_model(self, name: str) -> Json:
        """POST /api/models: serve a base model that the settings file has got since the start."""
        return await self._http.post("/api/models", {"name": name})

    async def remove_base_model(self, name: str) -> None:
        """DELETE /api/models/{name}: stop serving a base model that no deployment needs."""
        await self._http.delete(path("api", "models", name))

    async def deployments(self) -> list[Deployment]:
        """GET /api/deployments."""
        return list(await self._http.get("/api/deployments") or ())

    async def deployment(self, name: str) -> Deployment:
        """GET /api/deployments/{name}."""
        found: Deployment = await self._http.get(path("api", "deployments", name))
        return found

    async def evidence(self, deployment: str) -> Rows:
        """GET /api/deployments/{name}/evidence: what the canary's votes proved after each of them."""
        return list(await self._http.get(path("api", "deployments", deployment, "evidence")) or ())

    async def canary(
        self, deployment: str, release: str, weight: float, reason: str | None = None
    ) -> Deployment:
        """Give a release this share (0 to 1) of the traffic; one that its gate rejected needs a reason."""
        body = given(release=release, weight=weight, reason=reason)
        changed: Deployment = await self._http.post(path("api", "deployments", deployment, "canary"), body)
        return changed

    async def promote(
        self, deployment: str, release: str | None = None, reason: str | None = None
    ) -> Deployment:
        """Make the canary (or a release) stable; one that its gate rejected needs a reason."""
        body = given(release=release, reason=reason)
        changed: Deployment = await self._http.post(path("api", "deployments", deployment, "promote"), body)
        return changed

    async def rollback(self, deployment: str) -> Deployment:
        """End the canary, or return to the stable release before this one."""
        changed: Deployment = await self._http.post(path("api", "deployments", deployment, "rollback"))
        return changed

    async def adapters(self) -> Rows:
        """GET /api/adapters, newest first."""
        return list(await self._http.get("/api/adapters") or ())

    async def prune_adapters(
        self, keep_last: int | None = None, max_age_days: float | None = None, dry_run: bool = False
    ) -> Json:
        """POST /api/adapters/prune: delete adapters that nothing needs -> `{removed, dry_run}`."""
        body = {"keep_last": keep_last, "max_age_days": max_age_days, "dry_run": dry_run}
        return await self._http.post("/api/adapters/prune", body)

    async def evaluate(
        self, release: str, against: str | None = None, suite: str | None = None, people: int | None = None
    ) -> Evaluation:
        """POST /api/evals: queue an evaluation; `people` pairs of its answers go to Rank."""
        body = given(release=release, against=against, suite=suite, people=people)
        queued: Evaluation = await self._http.post("/api/evals", body)
        return queued

    async def evaluation(self, ident: str) -> Evaluation:
        """GET /api/evals/{id}."""
        found: Evaluation = await self._http.get(path("api", "evals", ident))
        return found

    async def evaluation_items(self, /, ident: str, **filters: Any) -> Rows:
        """GET /api/evals/{id}/items, one page; filters are measure, side, after and limit."""
        return list(await self._http.get(path("api", "evals", ident, "items"), **filters) or ())

    async def evaluation_report(self, ident: str, form: str = "html") -> str:
        """GET /api/evals/{id}/report.html or report.md, by `form` (html, md)."""
        return str(await self._http.get(path("api", "evals", ident, f"report.{form}")))

    async def evaluations(self) -> list[Evaluation]:
        """GET /api/evals, newest first."""
        return list(await self._http.get("/api/evals") or ())

    async def search_prompts(self, /, deployment: str, **fields: Any) -> Job:
        """POST /api/prompts/search: find the best system prompt; fields are those of /api/docs."""
        queued: Job = await self._http.post("/api/prompts/search", {"deployment": deployment, **fields})
        return queued

    async def compare_releases(self, /, deployment: str, **fields: Any) -> Job:
        """POST /api/releases/compare: ways of a deployment with quality, cost, and which to take."""
        queued: Job = await self._http.post("/api/releases/compare", {"deployment": deployment, **fields})
        return queued

    async def compare_models(self, /, models: Sequence[str], **fields: Any) -> Job:
        """POST /api/models/compare: models on one suite; the first is the baseline."""
        queued: Job = await self._http.post("/api/models/compare", {"models": list(models), **fields})
        return queued

    async def comparison_table(self, job: str) -> Rows:
        """GET /api/releases/compare/{job}/table: a comparison as rows of texts."""
        return list(await self._http.get(path("api", "releases", "compare", job, "table")) or ())

    async def comparison_report(self, job: str) -> str:
        """GET /api/releases/compare/{job}/report.html: a comparison as one page."""
        return str(await self._http.get(path("api", "releases", "compare", job, "report.html")))
