"""Whole files out of the store: rows to a new file, or to nothing."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from store.db.database import Store
from store.rollout import releases
from store.transfer.export_file import export
from store.transfer.export_filter import Filter
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.base import Request as Body
from trimtab.api.deployments.routes import known_deployment
from trimtab.api.training_data.files import new_path
from trimtab.api.training_data.models import Noun
from trimtab.background import call_store
from trimtab.config.writing import writing

router = APIRouter(tags=["training data"])


class ExportRequest(Body):
    """Where an export goes, on the platform's machine, and which rows it holds."""

    file: str = Field(min_length=1)
    format: str = Field("trl", description="trl, parquet, openai, ultrafeedback or csv")
    deployment: str | None = None
    release: str | None = Field(None, description="`assistant@3` or its id: it gave the chosen answer")
    rater: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tag: str | None = None
    min_agreement: float | None = Field(None, ge=0, le=1)


@router.post("/exports/{noun}", status_code=201)
async def export_file(
    noun: Noun, body: ExportRequest, platform: ThePlatform, principal: Operator
) -> dict[str, Any]:
    """Write rows to a new file (for `parquet`, a directory) on the platform's machine, whole or not at all."""
    await known_deployment(platform, body.deployment)
    path = await asyncio.to_thread(new_path, body.file)
    given = body.model_dump(exclude={"file", "format"})
    if body.release is not None:
        given["release"] = (await call_store(platform.db, releases.get, body.release)).id
    rows = await platform.long_work.run(_export, path, noun, body.format, Filter(**given))
    return {"file": str(path), "rows": rows, "format": body.format}


def _export(db: Store, path: Path, noun: str, format: str, where: Filter) -> int:
    with writing(path):
        return export(db, path, noun, format, where)
