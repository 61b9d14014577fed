"""Deployments.

Which release a public model name means. Every change commits with its history and audit rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from store.accounts import audit
from store.db import validation
from store.db.database import Cursor, Store, utcnow
from store.db.record import Record
from store.db.rows import Row, fetch_all, fetch_first, fetch_one, loads, scalar, stamp
from store.errors import Conflict, Invalid, NotFound
from store.rollout import releases
from store.rollout.releases import Release

_COLUMNS = "name, base, stable, canary, canary_weight, earlier, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Deployment(Record):
    """A public model name.

    `stable`, `canary` and `earlier` (rollback targets, newest last) are release ids.
    """

    name: str
    base: str
    stable: str
    canary: str | None
    canary_weight: float | None
    earlier: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


def ensure(
    db: Store,
    name: str,
    base: str,
    system_prompt: str | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Deployment:
    """Return the deployment; when it is new, make release 1 (no adapter) of it and put that stable."""
    validation.deployment_name(name, "name")
    with db.atomic() as cursor:
        row = fetch_first(cursor, f"select {_COLUMNS} from deployments where name = $name", {"name": name})
        if row:
            return _deployment(row)
        first = releases.insert(cursor, name, base, None, system_prompt, sampling)
        rows = fetch_all(
            cursor,
            f"""
            insert into deployments ({_COLUMNS})
            values ($name, $base, $stable, null, null, '[]', $now, $now)
            returning {_COLUMNS}
            """,
            {"name": name, "base": base, "stable": first.id, "now": utcnow()},
        )
        deployment = _deployment(rows[0])
        _log(db, cursor, "create", deployment, None, {"release": first.ref})
    return deployment


def get(db: Store, name: str) -> Deployment:
    """Return a deployment. Raises `NotFound`."""
    row = fetch_one(
        db.read(),
        f"select {_COLUMNS} from deployments where name = $name",
        {"name": name},
        otherwise=NotFound("deployment", name),
    )
    return _deployment(row)


def list_all(db: Store) -> list[Deployment]:
    """Return every deployment, by name."""
    return [_deployment(r) for r in fetch_all(db.read(), f"select {_COLUMNS} from deployments order by name")]


def anchor(db: Store, name: str) -> Release:
    """Return the last release that an operator made stable, else the deployment's first. Raises `NotFound`."""
    get(db, name)
    found = scalar(
        db.read(),
        """
        select stable
        from deployment_history
        where deployment = $name and (approved or action = 'create')
        order by seq desc
        limit 1
        """,
        {"name": name},
    )
    return releases.get(db, str(found))


def set_canary(
    db: Store,
    name: str,
    release: str,
    weight: float,
    actor: str | None = None,
    reason: str | None = None,
) -> Deployment:
    """Give `release` (a ref or id of this deployment) the share `weight` (0 to 1) of the traffic.

    Raises `NotFound`, `Conflict` for a release of another deployment or the stable one, `Invalid` for the
    weight, or where the gate rejected the release and no `reason` is given.
    """
    weight = validation.fraction("weight", weight)
    with db.atomic() as cursor:
        before = get(db, name)
        chosen = _own_release(db, before, release)
        if chosen.id == before.stable:
            raise Conflict(f"{chosen.ref} is the stable release of {name}; a canary is another one")
        _audit_force(db, cursor, name, chosen, actor, reason, "canary")
        return _change(
            db,
            cursor,
            "canary",
            before,
            actor,
            {"release": chosen.ref, "weight": weight},
            stable=before.stable,
            canary=chosen.id,
            weight=weight,
            earlier=before.earlier,
        )


def promote(
    db: Store,
    name: str,
    actor: str | None = None,
    release: str | None = None,
    *,
    reason: str | None = None,
    approved: bool = False,
    expect_canary: str | None = None,
    expect_stable: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Deployment:
    """Make `release` (default: the canary) stable; the release that was stable becomes the rollback target.

    Promoting what is stable already, without a canary, changes nothing. `approved` says that an operator asks
    for it. `expect_canary` and `expect_stable` (record ids) are those that `evidence` is about: `Conflict` when
    the traffic goes elsewhere meanwhile. Raises `NotFound`, `Conflict` where there is no canary or the release
    belongs to another deployment, `Invalid` where the gate rejected the release and no `reason` is given.
    """
    with db.atomic() as cursor:
        before = get(db, name)
        for what, expected, found in (
            ("canary", expect_canary, before.canary),
            ("stable release", expect_stable, before.stable),
        ):
            if expected is not None and expected != found:
                raise Conflict(f"{releases.get(db, expected).ref} is no longer the {what} of {name}")
        if release is None and before.canary is None:
            raise Conflict(f"{name} has no canary to promote; name a release")
        chosen = _own_release(db, before, release or str(before.canary))
        if chosen.id == before.stable and before.canary is None:
            return before
        _audit_force(db, cursor, name, chosen, actor, reason, "promote")
        earlier = before.earlier if chosen.id == before.stable else (*before.earlier, before.stable)
        return _change(
            db,
            cursor,
            "promote",
            before,
            actor,
            {"release": chosen.ref} | ({"evidence": dict(evidence)} if evidence else {}),
            stable=chosen.id,
            canary=None,
            weight=None,
            earlier=earlier,
            approved=approved,
        )


def rollback(
    db: Store,
    name: str,
    actor: str | None = None,
    expect: str | None = None,
    *,
    expect_canary: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Deployment:
    """Withdraw the canary, or without one go back to the release that was stable before.

    `expect` (a ref or id) is the release to withdraw: `Conflict` when it is neither the canary nor stable, so
    that two who react to the same alarm do not roll back twice. `expect_canary` (a record id) is the canary that
    `evidence` is about: `Conflict` when it is no longer one. Raises `NotFound`, and `Conflict` where there is
    nothing to go back to.
    """
    with db.atomic() as cursor:
        before = get(db, name)
        leaving = before.canary or before.stable
        if expect_canary is not None and expect_canary != before.canary:
            raise Conflict(f"{releases.get(db, expect_canary).ref} is no longer the canary of {name}")
        if expect is not None and releases.get(db, expect).id != leaving:
            raise Conflict(f"{name} serves {releases.get(db, leaving).ref} there, not {expect}")
        if before.canary is None and not before.earlier:
            raise Conflict(f"{name} has no canary and no earlier stable release to go back to")
        stable = before.stable if before.canary else before.earlier[-1]
        return _change(
            db,
            cursor,
            "rollback",
            before,
            actor,
            {"from": releases.get(db, leaving).ref, "to": releases.get(db, stable).ref}
            | ({"evidence": dict(evidence)} if evidence else {}),
            stable=stable,
            canary=None,
            weight=None,
            earlier=before.earlier if before.canary else before.earlier[:-1],
        )


def history(db: Store, name: str) -> list[dict[str, Any]]:
    """Return a deployment's changes, newest first: action, stable, canary, weight, actor, created_at."""
    get(db, name)
    rows = fetch_all(
        db.read(),
        """
        select action, stable, canary, canary_weight, actor, created_at
        from deployment_history
        where deployment = $name
        order by seq desc
        """,
        {"name": name},
    )
    return [{**row, "created_at": stamp(row["created_at"])} for row in rows]


def _own_release(db: Store, deployment: Deployment, ref: str) -> Release:
    if not isinstance(ref, str):
        raise Invalid("release", ref, f"a release of {deployment.name}, such as {deployment.name}@2")
    release = releases.get(db, ref)
    if release.deployment != deployment.name:
        raise Conflict(f"{release.ref} is not a release of {deployment.name}")
    return release


def _change(
    db: Store,
    cursor: Cursor,
    action: str,
    before: Deployment,
    actor: str | None,
    detail: dict[str, Any],
    *,
    stable: str,
    canary: str | None,
    weight: float | None,
    earlier: tuple[str, ...],
    approved: bool = False,
) -> Deployment:
    rows = fetch_all(
        cursor,
        f"""
        update deployments
        set stable = $stable, canary = $canary, canary_weight = $weight, earlier = $earlier,
            base = (select base from releases where id = $stable), updated_at = $now
        where name = $name
        returning {_COLUMNS}
        """,
        {
            "name": before.name,
            "stable": stable,
            "canary": canary,
            "weight": weight,
            "earlier": json.dumps(earlier),
            "now": utcnow(),
        },
    )
    after = _deployment(rows[0])
    _log(db, cursor, action, after, actor, detail, approved)
    return after


def _audit_force(
    db: Store,
    cursor: Cursor,
    name: str,
    release: Release,
    actor: str | None,
    reason: str | None,
    action: str,
) -> None:
    """Record that a release which its gate rejected takes traffic all the same, and why. Raises `Invalid`."""
    row = fetch_first(cursor, "select state from runs where id = $id", {"id": release.run})
    if row is None or row["state"] != "rejected":
        return
    if reason is None or not reason.strip():
        raise Invalid("reason", reason, f"a reason: the gate rejected {release.ref}")
    detail = {"release": release.ref, "reason": reason.strip(), "as": action}
    audit.record(db, actor, "deployment.force", name, detail)


def _log(
    db: Store,
    cursor: Cursor,
    action: str,
    after: Deployment,
    actor: str | None,
    detail: dict[str, Any],
    approved: bool = False,
) -> None:
    cursor.execute(
        """
        insert into deployment_history
            (deployment, action, stable, canary, canary_weight, actor, approved, created_at)
        values ($name, $action, $stable, $canary, $weight, $actor, $approved, $now)
        """,
        {
            "name": after.name,
            "action": action,
            "stable": after.stable,
            "canary": after.canary,
            "weight": after.canary_weight,
            "actor": actor,
            "approved": approved,
            "now": utcnow(),
        },
    )
    audit.record(db, actor, f"deployment.{action}", after.name, detail)


def _deployment(row: Row) -> Deployment:
    return Deployment(
        **{
            **row,
            "earlier": tuple(loads(row["earlier"])),
            "created_at": stamp(row["created_at"]),
            "updated_at": stamp(row["updated_at"]),
        }
    )
