"""Decisions on a release's traffic, by an operator, the votes or the alarm; the run that made the release follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from serve.router import Target
from store.db.database import Store
from store.errors import Conflict
from store.rollout import deployments, releases, runs
from store.rollout.releases import Release
from store.rollout.runs import Run
from trimtab.background import call_store
from trimtab.config.rollout_sections import CanarySettings
from trimtab.rollout.weighing import weigh_canary
from trimtab.serving import Serving

log = logging.getLogger(__name__)

CANARIES_EVERY_S = 60.0
"""Interval at which canaries are weighed between votes, seconds: rounds and trials end by time."""

P = ParamSpec("P")
T = TypeVar("T")


class Rollout:
    """Changes what deployments route to; each change is in the store and in the routing table at once.

    `excluded_raters` are those whose votes decide nothing.
    """

    def __init__(
        self,
        db: Store,
        serving: Serving,
        adapters_dir: Path,
        policy: CanarySettings,
        excluded_raters: tuple[str, ...] = (),
    ) -> None:
        self.db, self.serving, self.adapters_dir = db, serving, adapters_dir
        self.policy, self.excluded_raters = policy, excluded_raters

    async def set_canary(
        self, deployment: str, release: str, weight: float, actor: str, reason: str | None = None
    ) -> None:
        """Give a release a share of the traffic; its run, where it has one, is at `canary`.

        Raises Invalid where the gate rejected the release and no reason is given.
        """
        await self._require_adapter(release)
        before = await call_store(self.db, deployments.get, deployment)
        after = await self._route(deployments.set_canary, deployment, release, weight, actor, reason)
        await self._displace(before.canary, after.canary)
        await self._follow(await call_store(self.db, releases.get, release), "canary")

    async def promote(
        self, deployment: str, release: str | None, actor: str, reason: str | None = None
    ) -> None:
        """Make a release (without one: the canary) stable, as an operator asks.

        Raises Conflict when there is no canary to promote, Invalid where the gate rejected the release and no
        reason is given.
        """
        if release is not None:
            await self._require_adapter(release)
        before = await call_store(self.db, deployments.get, deployment)
        promoted = await self._route(
            deployments.promote, deployment, actor, release=release, reason=reason, approved=True
        )
        await self._displace(before.canary, promoted.stable)
        await self._follow(await call_store(self.db, releases.get, promoted.stable), "stable")

    async def rollback(self, deployment: str, actor: str) -> None:
        """End the canary, or go back to the stable release before this one. Raises Conflict without either."""
        before = await call_store(self.db, deployments.get, deployment)
        await self._route(deployments.rollback, deployment, actor)
        left = await call_store(self.db, releases.get, before.canary or before.stable)
        await self._follow(left, "rolled_back")

    async def withdraw(
        self, deployment: str, canary: str, actor: str, evidence: dict[str, Any] | None = None
    ) -> None:
        """End the canary with this record id, which the alarm or the votes are about, unless it is no longer one."""
        try:
            await self._route(
                deployments.rollback, deployment, actor, expect_canary=canary, evidence=evidence
            )
        except Conflict as error:
            log.info("%s comes too late: %s", actor, error)
            return
        await self._follow(await call_store(self.db, releases.get, canary), "rolled_back")

    async def on_alarm(self, target: Target, why: str) -> None:
        """End a canary that fails too often, as `serve.gateway.canary_monitor` reports."""
        assert target.deployment is not None
        assert target.release_id is not None
        await self.withdraw(target.deployment, target.release_id, f"alarm: {why}")

    async def weigh_votes(self, deployment: str) -> None:
        """Promote or roll back a canary once votes prove enough or its time is over; called after each vote."""
        if self.policy.votes_alpha is None:
            return
        trial = await call_store(self.db, weigh_canary, deployment, self.policy, self.excluded_raters)
        if trial is None or trial.verdict is None:
            return
        actor, duel = trial.sentence(), trial.duel
        log.info("%s: %s by %s", deployment, trial.verdict, actor)
        if trial.verdict == "rollback":
            await self.withdraw(deployment, duel.canary, actor, trial.facts())
            return
        try:
            await self._route(
                deployments.promote,
                deployment,
                actor,
                release=duel.canary,
                expect_canary=duel.canary,
                expect_stable=duel.stable,
                evidence=trial.facts(),
            )
        except Conflict as error:
            log.info("%s comes too late: %s", actor, error)
            return
        await self._follow(await call_store(self.db, releases.get, duel.canary), "stable")

    async def watch_canaries(self) -> None:
        """Weigh every canary at intervals, until cancelled, so that those whose time is over end."""
        while True:
            await asyncio.sleep(CANARIES_EVERY_S)
            for deployment in await call_store(self.db, deployments.list_all):
                try:
                    if deployment.canary:
                        await self.weigh_votes(deployment.name)
                except Exception:
                    log.exception("the canary of %s could not be weighed", deployment.name)

    async def apply(self, run: Run, state: str) -> None:
        """Give a run's release the traffic of the run state `state`; applied already, it changes nothing."""
        assert run.release is not None
        deployment = await call_store(self.db, deployments.get, run.deployment)
        actor = run.requested_by or run.id
        if state == "canary" and deployment.canary != run.release:
            weight = self.policy.weight
            await self._route(deployments.set_canary, run.deployment, run.release, weight, actor)
        elif state == "stable" and deployment.stable != run.release:
            await self._route(deployments.promote, run.deployment, actor, release=run.release)
        elif state != "rejected":
            await self.serving.refresh()
        if state in ("canary", "stable"):
            await self._displace(deployment.canary, run.release)

    async def _require_adapter(self, release: str) -> None:
        """Raise Conflict for a release whose adapter was deleted: it could only answer with errors."""
        adapter = (await call_store(self.db, releases.get, release)).adapter
        if adapter and not await asyncio.to_thread((self.adapters_dir / adapter).is_dir):
            raise Conflict(f"{release} can take no traffic: its adapter {adapter} was pruned")

    async def _displace(self, canary: str | None, by: str | None) -> None:
        """Move the run of a canary that another release has replaced back to `published`."""
        if canary is not None and canary != by:
            await self._follow(await call_store(self.db, releases.get, canary), "published")

    async def _follow(self, release: Release, state: str) -> None:
        """Move the run that made `release` to `state`, where its history allows."""
        if release.run is None:
            return
        run = await call_store(self.db, runs.get, release.run)
        if run.state != state:
            try:
                await call_store(self.db, runs.move, run.id, state)
            except Conflict as error:
                log.info("%s stays %s: %s", run.id, run.state, error)

    async def _route(
        self, function: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Change what deployments mean; the routing table changes with it."""
        return await self.serving.change(function, *args, **kwargs)


def final_state(run: Run, on_undecided: str) -> str:
    """Return the state that a judged run ends in: what its rollout asks for, as far as the gate allows.

    A gate that is `undecided` leads to a canary at most, never to stable, as does one that says so (`at_most`).
    """
    asked = {"none": "published", "canary": "canary", "promote": "stable"}[run.rollout]
    decision = run.gate_decision or {}
    verdict = decision.get("verdict") or ("pass" if decision.get("passed") else "fail")
    if run.gate == "enforce" and verdict == "pass" and asked == "stable":
        return str(decision.get("at_most") or asked)
    if run.gate != "enforce" or verdict == "pass":
        return asked
    if verdict == "fail" or on_undecided == "reject":
        return "rejected"
    if on_undecided == "ask":
        return "published"
    return "canary" if asked == "stable" else asked
