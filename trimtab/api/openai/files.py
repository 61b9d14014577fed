"""`/v1/files`: training files of OpenAI's fine-tuning API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from serve.errors import RequestError
from store.db.database import Store
from store.errors import Invalid, NotFound
from store.training_data import uploaded_files
from store.training_data.training_lines import BadLine
from store.training_data.uploaded_files import FINE_TUNE, Order, UploadedFile
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.openai.pages import After, bad_value, missing, page
from trimtab.api.openai.upload import received
from trimtab.background import call_store
from trimtab.erasure import delete_erased_files
from trimtab.platform import Platform

router = APIRouter(prefix="/v1/files", include_in_schema=False)  # the document is OpenAI's

MAX_LISTED = 10_000


@router.post("")
async def upload(request: Request, platform: ThePlatform, principal: Operator) -> dict[str, Any]:
    """Store the rows of a JSONL file in OpenAI's form for supervised fine-tuning or for preferences, all or none.

    Each line is `{messages}`, or `{input: {messages}, preferred_output, non_preferred_output}` in a file of pairs.
    """
    async with received(request, platform.paths.scratch) as given:
        _check_fields(given.fields)
        try:
            file = await platform.long_work.run(
                uploaded_files.add, given.path, given.filename, principal.name
            )
        except Invalid as error:
            code = "invalid_file_format" if isinstance(error, BadLine) else "invalid_value"
            raise RequestError(f"{error}.", "file", code=code) from error
    return file_view(file)


@router.get("")
async def list_files(
    platform: ThePlatform,
    principal: Operator,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
    order: Order = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    """List the files, the newest first unless `order` is `asc`."""
    found = await call_store(platform.db, uploaded_files.list_page, limit + 1, after, order, purpose)
    return page([file_view(file) for file in found], limit)


@router.get("/{file_id}")
async def retrieve(file_id: str, platform: ThePlatform, principal: Operator) -> dict[str, Any]:
    """Return a file's name, size and state."""
    return file_view(await _file(platform, file_id))


@router.get("/{file_id}/content", response_class=StreamingResponse)
async def content(file_id: str, platform: ThePlatform, principal: Operator) -> StreamingResponse:
    """Write the rows of a file again as JSONL, as they are stored: redacted, and without those that occur twice."""
    file = await _file(platform, file_id)

    def lines() -> Iterator[bytes]:
        with platform.db.guarded():
            yield from uploaded_files.lines(platform.db, file)

    return StreamingResponse(lines(), media_type="application/jsonl")


@router.delete("/{file_id}")
async def delete(file_id: str, platform: ThePlatform, principal: Operator) -> dict[str, Any]:
    """Delete a file with its rows, also from snapshots and from the directories of runs. 409 while a job needs it."""
    await _file(platform, file_id)
    await platform.long_work.run(_delete, platform, file_id, principal.name)
    return {"id": file_id, "object": "file", "deleted": True}


def file_view(file: UploadedFile) -> dict[str, Any]:
    """Return a file in OpenAI's form."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


def _check_fields(fields: dict[str, str]) -> None:
    purpose = fields.pop("purpose", None)
    if purpose != FINE_TUNE:
        raise bad_value("purpose", purpose, f"{FINE_TUNE!r}: the platform keeps files to train on alone")
    if fields:
        name = min(fields)
        raise bad_value(name, fields[name], "the fields file and purpose", "unknown_parameter")


async def _file(platform: Platform, id: str) -> UploadedFile:
    try:
        return await call_store(platform.db, uploaded_files.get, id)
    except NotFound:
        raise missing("file", id, "id") from None


def _delete(db: Store, platform: Platform, id: str, actor: str) -> None:
    uploaded_files.delete(db, id, actor)
    delete_erased_files(db, platform.paths)
