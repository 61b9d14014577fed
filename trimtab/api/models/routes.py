"""Base models: which are served; start and stop engines of those that the settings file gains and loses."""

from __future__ import annotations

from fastapi import APIRouter

from serve.auth import Principal
from store.accounts import audit
from trimtab.api.access import Operator, Rater, ThePlatform
from trimtab.api.models.models import ModelRequest, ModelView
from trimtab.api.problems import Problem
from trimtab.api.status.models import EngineView
from trimtab.background import call_store
from trimtab.live_models import add_from_settings, deployments_of, remove_unused
from trimtab.platform import Platform

router = APIRouter(prefix="/models", tags=["models"])


async def _view(platform: Platform, base: str) -> ModelView:
    engines = [row for row in platform.serving.engine_rows() if row["base"] == base]
    settings = next((engine for engine in platform.serving.engines.values() if engine.base == base), None)
    return ModelView(
        name=base,
        model=str(platform.serving.model_path(base)),
        revision=settings.revision if settings else None,
        engines=[EngineView(**row) for row in engines],
        deployments=await call_store(platform.db, deployments_of, base),
    )


def _require_known(platform: Platform, base: str) -> None:
    if base not in platform.serving.bases:
        accepted = ", ".join(platform.serving.bases)
        raise Problem(404, f"no base model {base!r}", field="name", accepted=accepted)


@router.get("")
async def list_models(platform: ThePlatform, principal: Rater) -> list[ModelView]:
    """List the base models that are served."""
    return [await _view(platform, base) for base in platform.serving.bases]


@router.post("", status_code=201)
async def add(body: ModelRequest, platform: ThePlatform, principal: Operator) -> ModelView:
    """Serve a base model of the settings file that was added after the start, with its deployments."""
    await add_from_settings(platform, body.name)
    await _record(platform, principal, "model.add", body.name)
    return await _view(platform, body.name)


@router.delete("/{name}", status_code=204)
async def remove(name: str, platform: ThePlatform, principal: Operator) -> None:
    """Stop serving a base model that no deployment needs; the settings file stays as it is."""
    _require_known(platform, name)
    await remove_unused(platform, name, principal.name)
    await _record(platform, principal, "model.remove", name)


async def _record(platform: Platform, principal: Principal, action: str, name: str) -> None:
    await call_store(platform.db, audit.record, principal.name, action, name)
