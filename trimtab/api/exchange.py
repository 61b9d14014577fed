"""Whole files in and out: imports that stream, exports that appear whole."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from store import releases
from store.exporting import Filter, export
from store.importing import import_file
from store.records import RejectedRow
from trimtab.api.access import Operator, ThePlatform, stored
from trimtab.api.models.base import Request as Body
from trimtab.api.models.base import View
from trimtab.api.problems import Problem
from trimtab.platform import Platform

router = APIRouter(tags=["training data"])

Noun = Literal["pairs", "demonstrations", "likes"]
MOST_SHOWN = 100

FILE = {
    "requestBody": {
        "description": "the file's bytes: JSONL, a JSON array, CSV or Parquet, also gzip or zstd",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "required": True,
    }
}


class FileImportView(View):
    """What became of a file's rows; `broke_off` says where it ends too early."""

    accepted: int
    duplicates: int
    rejected: list[dict[str, Any]] = Field(description="the first refused rows: `{row, why}`")
    rejected_count: int
    format: str
    container: str
    compression: str | None
    broke_off: str | None
    dry_run: bool
    rejects: str | None = Field(
        None, description="the file of refused rows, where it was asked for and there are any"
    )


@router.post("/imports/{noun}", openapi_extra=FILE)
async def import_upload(
    noun: Noun,
    request: Request,
    platform: ThePlatform,
    principal: Operator,
    name: str = "upload",
    format: str | None = None,
    deployment: str | None = None,
    dry_run: bool = False,
    rejects: str | None = None,
) -> FileImportView:
    """Imports a file that is the request's body; its format is told from its content unless it is named.

    `rejects` names a new file on the platform's machine for the refused rows, with number and reason.
    """
    known_deployment(platform, deployment)
    refused_rows = await asyncio.to_thread(_new_path, rejects, "rejects") if rejects else None
    with tempfile.TemporaryDirectory(dir=platform.paths.root) as scratch:
        path = Path(scratch) / "upload"
        with path.open("wb") as file:
            async for chunk in request.stream():
                await asyncio.to_thread(file.write, chunk)
        done = await stored(
            platform,
            import_file,
            path,
            noun,
            format=format,
            imported_by=principal.name,
            deployment=deployment,
            dry_run=dry_run,
            rejects=refused_rows,
            source=name,
        )
    refused: tuple[RejectedRow, ...] = done.result.rejected[:MOST_SHOWN]
    return FileImportView(
        accepted=done.result.accepted,
        duplicates=done.result.duplicates,
        rejected=[row.to_json() for row in refused],
        rejected_count=done.result.rejected_count,
        format=done.format,
        container=done.container,
        compression=done.compression,
        broke_off=done.broke_off,
        dry_run=dry_run,
        rejects=done.rejects,
    )


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
    """Writes rows to a new file (for `parquet`, a directory) on the platform's machine, whole or not at all."""
    path = await asyncio.to_thread(_new_path, body.file)
    given = body.model_dump(exclude={"file", "format"})
    if body.release is not None:
        given["release"] = (await stored(platform, releases.get, body.release)).id
    where = Filter(**given)
    rows = await stored(platform, export, path, noun, body.format, where)
    return {"file": str(path), "rows": rows, "format": body.format}


def known_deployment(platform: Platform, name: str | None) -> None:
    """Raises Problem 404 for a deployment that the settings do not name; None is every deployment."""
    if name is not None and name not in platform.settings.deployments:
        accepted = ", ".join(platform.settings.deployments)
        raise Problem(404, f"no deployment {name!r}", field="deployment", accepted=accepted)


def _new_path(file: str, field: str = "file") -> Path:
    path = Path(file).expanduser().absolute()
    if path.exists():
        raise Problem(409, f"{path} exists already", field=field)
    if not path.parent.is_dir():
        raise Problem(422, f"{path.parent} is not a directory", field=field, accepted="a new file's path")
    return path
