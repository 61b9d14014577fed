"""Deployments: where the traffic of a public model name goes, and the leaderboard."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from serve.auth import Principal
from store.rollout import deployments, leaderboard, releases
from store.rollout.deployments import Deployment
from trimtab.api.access import Operator, Rater, ThePlatform
from trimtab.api.deployments.models import (
    CanaryRequest,
    DeploymentView,
    EvidencePointView,
    LeaderboardRowView,
    PromoteRequest,
)
from trimtab.api.problems import Problem
from trimtab.api.views import canary_votes, deployment_view
from trimtab.background import call_store
from trimtab.platform import Platform
from trimtab.rollout.evidence_path import evidence_path
from trimtab.rollout.weighing import weigh_canary

router = APIRouter(tags=["deployments"])


async def release_names(platform: Platform) -> dict[str, str]:
    """Public name of every release by record id."""
    return {release.id: release.ref for release in await call_store(platform.db, releases.list_all)}


async def known_deployment(platform: Platform, name: str | None) -> None:
    """Raise Problem 404 for a deployment that never existed; None is every deployment."""
    if name is not None:
        known = [found.name for found in await call_store(platform.db, deployments.list_all)]
        if name not in known:
            raise Problem(404, f"no deployment {name!r}", field="deployment", accepted=", ".join(known))


async def describe(
    platform: Platform, found: Deployment, names: dict[str, str], principal: Principal
) -> DeploymentView:
    """Return one deployment and, where it has a canary, what the votes say of it."""
    policy, excluded = platform.settings.canary, platform.settings.snapshot.exclude_raters
    trial = (
        await call_store(platform.db, weigh_canary, found.name, policy, excluded) if found.canary else None
    )
    votes = canary_votes(trial, policy, "ops" in principal.roles) if trial else None
    return deployment_view(found, names, votes)


async def _view(platform: Platform, name: str, principal: Principal) -> DeploymentView:
    found = await call_store(platform.db, deployments.get, name)
    return await describe(platform, found, await release_names(platform), principal)


@router.get("/deployments")
async def list_deployments(platform: ThePlatform, principal: Rater) -> list[DeploymentView]:
    """List every deployment."""
    names = await release_names(platform)
    return [
        await describe(platform, found, names, principal)
        for found in await call_store(platform.db, deployments.list_all)
    ]


@router.get("/deployments/{name}")
async def get(name: str, platform: ThePlatform, principal: Rater) -> DeploymentView:
    """Return one deployment."""
    return await _view(platform, name, principal)


@router.get("/deployments/{name}/evidence")
async def evidence(name: str, platform: ThePlatform, principal: Rater) -> list[EvidencePointView]:
    """List what the votes on the canary proved after each of them, oldest first; empty without a canary or votes."""
    policy, excluded = platform.settings.canary, platform.settings.snapshot.exclude_raters
    found = await call_store(platform.db, evidence_path, name, policy, excluded)
    return [EvidencePointView(**asdict(point)) for point in found]


@router.post("/deployments/{name}/canary")
async def canary(
    name: str, body: CanaryRequest, platform: ThePlatform, principal: Operator
) -> DeploymentView:
    """Give a release a share of the traffic."""
    await platform.rollout.set_canary(name, body.release, body.weight, principal.name, body.reason)
    return await _view(platform, name, principal)


@router.post("/deployments/{name}/promote")
async def promote(
    name: str, platform: ThePlatform, principal: Operator, body: PromoteRequest | None = None
) -> DeploymentView:
    """Make the canary (or the release that is named) stable."""
    asked = body or PromoteRequest()
    await platform.rollout.promote(name, asked.release, principal.name, asked.reason)
    return await _view(platform, name, principal)


@router.post("/deployments/{name}/rollback")
async def rollback(name: str, platform: ThePlatform, principal: Operator) -> DeploymentView:
    """End the canary, or, without one, go back to the stable release before this one."""
    await platform.rollout.rollback(name, principal.name)
    return await _view(platform, name, principal)


@router.get("/leaderboard")
async def ranked(
    platform: ThePlatform, principal: Rater, deployment: str | None = None
) -> list[LeaderboardRowView]:
    """List releases ranked from votes, best first."""
    await known_deployment(platform, deployment)
    names = await release_names(platform)
    rows = await call_store(platform.db, leaderboard.rank, deployment)
    return [
        LeaderboardRowView(**row.to_json() | {"release": names.get(row.release, row.release)}) for row in rows
    ]
