"""Base models that a running platform gains and loses, without a restart."""

from __future__ import annotations

import asyncio

from store.db.database import Store
from store.errors import Conflict
from store.rollout import deployments, releases, unused_deployments
from trimtab.background import call_store
from trimtab.config.settings import Settings
from trimtab.config.settings_file import load
from trimtab.errors import ModelRefused
from trimtab.platform import Platform


async def add_from_settings(platform: Platform, base: str) -> None:
    """Start the engines that the settings file has for `base`, and make its deployments; nothing where they run already.

    Raises `SettingsError`, and `ModelRefused` where the file has no such base or an engine's name is taken.
    """
    settings = await asyncio.to_thread(_read, platform)
    engines = {name: engine for name, engine in settings.engines.items() if engine.base == base}
    if not engines:
        known = ", ".join(sorted({engine.base for engine in settings.engines.values()}))
        raise ModelRefused("name", f"{platform.settings_file} has no base model {base!r}", known)
    made = {name: found for name, found in settings.deployments.items() if found.base == base}
    for name, found in made.items():
        await call_store(
            platform.db,
            deployments.ensure,
            name,
            base,
            system_prompt=found.system_prompt,
            sampling=found.sampling,
        )
    if base in platform.serving.bases:
        await platform.serving.refresh()
        return
    try:
        await platform.serving.add_base(base, engines)
    except ValueError as error:
        raise ModelRefused("name", str(error), "a base whose engines have names of their own") from error


async def remove_unused(platform: Platform, base: str, actor: str) -> None:
    """Stop the engines of `base` and delete its unused deployments.

    Raises `Conflict` where a deployment needs it or it is the only base.
    """
    if len(platform.serving.bases) == 1:
        raise Conflict(f"{base} is the only base model that is served")
    await call_store(platform.db, delete_unused, base, actor)
    await platform.serving.remove_base(base)


def delete_unused(db: Store, base: str, actor: str | None = None) -> None:
    """Delete the deployments of `base`, all of them unused. Raises `Conflict` where one is in use, before any is gone."""
    found = deployments_of(db, base)
    if used := [name for name in found if not unused_deployments.is_unused(db, name)]:
        raise Conflict(
            f"{base} is in use by {', '.join(used)}: its stable, canary or earlier release is on it"
        )
    for name in found:
        unused_deployments.delete(db, name, actor)


def deployments_of(db: Store, base: str) -> list[str]:
    """Return the deployments that have, or can roll back to, a release on `base`."""
    bases = {release.id: release.base for release in releases.list_all(db)}
    found = []
    for deployment in deployments.list_all(db):
        ids = (deployment.stable, deployment.canary, *deployment.earlier)
        if any(bases.get(ident or "") == base for ident in ids):
            found.append(deployment.name)
    return found


def _read(platform: Platform) -> Settings:
    file = platform.settings_file
    return load(file if file is not None and file.is_file() else None)
