"""The release that prompts and adapters are compared with: the base model with neither."""

from __future__ import annotations

from store.accounts import audit
from store.db.database import Store
from store.rollout import deployments, releases
from store.rollout.releases import Release


def plain_release(db: Store, deployment: str, actor: str | None) -> Release:
    """Return the deployment's release of the base alone with the sampling of stable; it is made where there is none."""
    stable = releases.get(db, deployments.get(db, deployment).stable)
    for release in releases.list_all(db, deployment):
        bare = release.adapter is None and not release.system_prompt
        if bare and release.base == stable.base and release.sampling == stable.sampling:
            return release
    made = releases.create(db, deployment, stable.base, sampling=stable.sampling, created_by=actor)
    audit.record(db, actor, "release.create", made.ref)
    return made
