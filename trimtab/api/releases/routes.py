"""Releases and their lineage."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Response

from store.accounts import audit
from store.errors import NotFound
from store.rollout import adapters, deployments, release_tree, releases
from store.rollout.chat_template_kwargs import KEY, fixed_by, joined, without
from store.rollout.lineage import of_release
from store.rollout.lineage import page as rows_behind
from store.rollout.releases import Release
from trimtab.api.access import Operator, Rater, ThePlatform
from trimtab.api.problems import Problem
from trimtab.api.releases.difference import DifferenceView, difference
from trimtab.api.releases.models import BranchView, ReleaseRequest, ReleaseView
from trimtab.api.releases.template_arguments import require_template_reads
from trimtab.api.views import release_view
from trimtab.background import call_store
from trimtab.platform import Platform

router = APIRouter(prefix="/releases", tags=["releases"])


async def views(platform: Platform, found: list[Release]) -> list[ReleaseView]:
    """Return the releases as answers, each with its lane and its adapter's parity."""
    lanes = {
        deployment.name: deployment for deployment in await call_store(platform.db, deployments.list_all)
    }
    parities = {adapter.id: adapter.parity for adapter in await call_store(platform.db, adapters.list_all)}
    return [release_view(release, lanes, parities.get(release.adapter or "")) for release in found]


@router.get("")
async def list_releases(
    platform: ThePlatform, principal: Rater, deployment: str | None = None
) -> list[ReleaseView]:
    """List releases, newest first."""
    found = await call_store(platform.db, releases.list_all, deployment)
    return sorted(await views(platform, found), key=lambda view: view.created_at, reverse=True)


@router.post("", status_code=201)
async def create(body: ReleaseRequest, platform: ThePlatform, principal: Operator) -> ReleaseView:
    """Create a release without traffic; a local PEFT directory is checked, published and measured first.

    What the body leaves out comes from the stable release; `inherited` names it.
    """
    deployment = await call_store(platform.db, deployments.get, body.deployment)
    stable = await call_store(platform.db, releases.get, deployment.stable)
    base = body.base or stable.base
    if base not in platform.serving.bases:
        raise Problem(
            422,
            f"base {base!r} is served by no engine",
            field="base",
            accepted=", ".join(platform.serving.bases),
        )
    await asyncio.to_thread(require_template_reads, platform.serving, base, body.chat_template_kwargs or {})
    adapter = await _adapter(platform, body.adapter, base, principal.name) if body.adapter else None
    inherited = _inherited(body, stable, base)
    fields = {
        "adapter": adapter,
        "system_prompt": body.system_prompt,
        "sampling": body.sampling or {},
        KEY: body.chat_template_kwargs,
    } | inherited
    fields["sampling"] = joined(fields["sampling"], fields.pop(KEY))
    release = await call_store(
        platform.db, releases.create, body.deployment, base, **fields, created_by=principal.name
    )
    await call_store(platform.db, audit.record, principal.name, "release.create", release.ref)
    await platform.serving.refresh()
    view = (await views(platform, [release]))[0]
    names = [name for name, value in inherited.items() if value]
    return view.model_copy(update={"inherited": names, "inherited_from": stable.ref})


def _inherited(body: ReleaseRequest, stable: Release, base: str) -> dict[str, Any]:
    """Return what the body omits, as the stable release has it; adapter and template stay with their base."""
    fields = {
        "adapter": stable.adapter,
        "system_prompt": stable.system_prompt,
        "sampling": without(stable.sampling),
        KEY: fixed_by(stable.sampling),
    }
    if base != stable.base:
        del fields["adapter"], fields[KEY]
    return {name: value for name, value in fields.items() if name not in body.model_fields_set}


async def _adapter(platform: Platform, given: str, base: str, who: str) -> str:
    """Return the id of an adapter, published now when `given` is a directory."""
    try:
        known = await call_store(platform.db, adapters.get, given)
    except NotFound:
        if not await asyncio.to_thread(Path(given).is_dir):
            raise Problem(
                422,
                f"adapter {given!r} is neither an adapter's id nor a directory on this machine",
                field="adapter",
                accepted="an adapter's id (`a-…`) or a PEFT directory",
            ) from None
        record = await platform.serving.publish_directory(Path(given), base, who)
        await call_store(platform.db, adapters.record, record)
        return record.id
    if known.base != base:
        raise Problem(422, f"adapter {given} was trained on {known.base}, not on {base}", field="adapter")
    return known.id


@router.get("/tree")
async def tree(platform: ThePlatform, principal: Rater, deployment: str | None = None) -> list[BranchView]:
    """List releases with what each was made from, oldest first: a prompt's change, training, or a combination."""
    found = await call_store(platform.db, release_tree.branches, deployment)
    return [BranchView(**branch.to_json()) for branch in found]


@router.get("/{ref}")
async def get(ref: str, platform: ThePlatform, principal: Rater) -> ReleaseView:
    """Return one release, by `assistant@3` or its record id."""
    return (await views(platform, [await call_store(platform.db, releases.get, ref)]))[0]


@router.get("/{ref}/lineage")
async def lineage(ref: str, platform: ThePlatform, principal: Operator) -> dict[str, Any]:
    """Run, snapshot, and how many pairs and prompts, by which raters and imports, a release learned from."""
    return await call_store(platform.db, of_release, await call_store(platform.db, releases.get, ref))


@router.get("/{ref}/diff/{against}")
async def diff(ref: str, against: str, platform: ThePlatform, principal: Operator) -> DifferenceView:
    """Return what changes from a release to this one: configuration, system prompt, training."""
    return await call_store(platform.db, difference, ref, against)


@router.get("/{ref}/lineage/{noun}")
async def lineage_rows(
    ref: str,
    noun: Literal["pairs", "demonstrations", "likes"],
    platform: ThePlatform,
    principal: Operator,
    response: Response,
    limit: int = 100,
    after: str | None = None,
) -> list[dict[str, Any]]:
    """List the rows behind a release: prompt, raters, comparisons, split, weight; `Link` leads to the next page."""
    limit = max(1, min(limit, 1000))
    release = await call_store(platform.db, releases.get, ref)
    found = await call_store(platform.db, rows_behind, release, noun, limit, after)
    if len(found) == limit:
        place = f"/api/releases/{quote(ref, safe='@')}/lineage/{noun}?limit={limit}&after={found[-1]['id']}"
        response.headers["Link"] = f'<{place}>; rel="next"'
    return found
