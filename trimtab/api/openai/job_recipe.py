"""The parameters of a run that trains on an uploaded file, checked before it is queued."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from align.errors import ModelError
from align.recipe.auto import facts_of, with_auto
from store.db.database import Store
from store.errors import Conflict
from store.privacy import erasure
from store.rollout.releases import Release
from store.training_data.uploaded_files import UploadedFile
from trimtab.platform import Platform
from trimtab.runs.planning import make_plan, recipe_of, require_fits


def params_for(
    db: Store,
    platform: Platform,
    method: str,
    release: Release,
    file: UploadedFile,
    params: Mapping[str, Any],
    rate_multiplier: float | None,
) -> dict[str, Any]:
    """Return the parameters of a run on top of `release`, with a rate that is a multiple of the one `auto` chooses.

    Raises `RecipeError`, `PlanError` for a run that does not fit this machine, and `ModelError` where a multiple is asked
    for of a base that cannot be read.
    """
    settings = platform.settings.training
    base = platform.serving.model_path(release.base)
    start = erasure.clean_start(db, release.adapter)
    adapter = platform.paths.adapters / start if start else None
    found = dict(params)
    recipe = recipe_of(settings, method, False, found, None)
    if rate_multiplier is not None:
        chosen = with_auto(recipe, facts_of(base, file.row_count, adapter))
        found["learning_rate"] = min(1.0, float(chosen.learning_rate) * rate_multiplier)
        recipe = recipe_of(settings, method, False, found, None)
    with suppress(Conflict, ModelError):  # what cannot be planned is left to the worker
        plan, _, machine, _ = make_plan(db, recipe, file.id, base, None, settings.device, adapter)
        require_fits(plan, machine)
    return found
