"""What was learned from whom, and the erasure of a person."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from serve.auth import Principal
from store.datasets import snapshots
from store.db.database import Store
from store.errors import NotFound
from store.feedback import raters
from store.privacy import erasure
from store.rollout import lineage
from store.training_data import pairs
from trimtab import erasure as person_erasure
from trimtab.api.access import Operator, ThePlatform, TheStore
from trimtab.api.deployments.routes import known_deployment
from trimtab.api.people.models import ErasureRequest
from trimtab.background import call_store
from trimtab.platform import Platform

router = APIRouter(tags=["lineage and privacy"])


@router.get("/pairs/{pair_id}/lineage")
async def releases_of_pair(pair_id: str, db: TheStore, principal: Operator) -> list[dict[str, Any]]:
    """List every release that learned from a pair."""
    await call_store(db, pairs.get, pair_id)
    return await call_store(db, lineage.of_pair, pair_id)


@router.get("/users/{name:path}/lineage")
async def releases_of_person(name: str, db: TheStore, principal: Operator) -> list[dict[str, Any]]:
    """List every release that learned from a person's words or votes; 404 for a person who is not in the store."""
    found = await call_store(db, lineage.of_person, name)
    if not found and not await call_store(db, erasure.is_known, name):
        raise NotFound("person", name)
    return found


@router.post("/users/{name:path}/erase")
async def erase(
    name: str, platform: ThePlatform, principal: Operator, dry_run: bool = False
) -> dict[str, Any]:
    """Erase a person: their words, votes, and what was derived from them. The answer says which releases learned from it.

    `removed` counts rows by noun, `of_others` how many of these votes and likes other people gave; `stopped` are the runs
    under way that were to learn from them, `runs` all whose data held something of theirs. With `dry_run` nothing
    changes, and the answer says what would.
    """
    return await _erase(platform, principal, name, dry_run)


@router.post("/erasures")
async def erase_by_name(body: ErasureRequest, platform: ThePlatform, principal: Operator) -> dict[str, Any]:
    """Erase a person as `/api/users/{name}/erase` does; takes names that no path can hold, such as `..`."""
    return await _erase(platform, principal, body.name, body.dry_run)


async def _erase(platform: Platform, principal: Principal, name: str, dry_run: bool) -> dict[str, Any]:
    if dry_run:
        return await platform.long_work.run(person_erasure.preview, name)
    return await person_erasure.erase_person(platform, name, principal.name)


@router.get("/raters")
async def list_raters(db: TheStore, principal: Operator) -> list[dict[str, Any]]:
    """Report how raters agree with each other and with gold questions, how fast they are, which side they favour."""
    return [row.to_json() for row in await call_store(db, raters.report)]


@router.get("/raters/agreement")
async def agreement(
    platform: ThePlatform, principal: Operator, deployment: str | None = None
) -> dict[str, Any]:
    """Krippendorff's alpha over the comparisons with two votes or more: 1 is agreement, 0 what chance gives."""
    await known_deployment(platform, deployment)
    return await call_store(platform.db, _alpha, deployment)


def _alpha(db: Store, deployment: str | None) -> dict[str, Any]:
    return raters.alpha(db.read(), deployment)


@router.get("/erasures")
async def list_erasures(db: TheStore, principal: Operator) -> dict[str, Any]:
    """List every erasure, newest first, and the releases that learned from something erased since."""
    return {
        "erasures": [row.to_json() for row in await call_store(db, erasure.list_all)],
        "flagged": await call_store(db, erasure.flagged),
    }


@router.get("/snapshots")
async def list_snapshots(db: TheStore, principal: Operator) -> list[dict[str, Any]]:
    """List every snapshot with its data report, newest first."""
    found = [row.to_json() for row in await call_store(db, snapshots.list_all)]
    return sorted(found, key=lambda row: str(row["created_at"]), reverse=True)


@router.get("/snapshots/{snapshot_id}")
async def get_snapshot(snapshot_id: str, db: TheStore, principal: Operator) -> dict[str, Any]:
    """Return one snapshot: settings, rows, data report."""
    return (await call_store(db, snapshots.get, snapshot_id)).to_json()
