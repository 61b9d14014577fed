"""The form of an upload: its file on the disk, and its fields."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Message

from serve.errors import RequestError
from trimtab.config.writing import writing

MAX_FILE = 512 * 2**20
"""Bytes of a file, at most."""
_MAX_FORM = MAX_FILE + 2**20
_MAX_FIELDS = 20
_PIECE = 2**20


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was received at `path`, under the name that its sender gave it, and the fields beside it."""

    path: Path
    filename: str
    fields: dict[str, str]


@asynccontextmanager
async def received(request: Request, scratch: Path) -> AsyncIterator[Upload]:
    """Receive the form of a request, and keep its `file` below `scratch` until the block ends. Raises `RequestError`."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > _MAX_FORM:
        raise _too_large()
    limited = Request(request.scope, _Limited(request))
    async with limited.form(max_files=1, max_fields=_MAX_FIELDS) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise RequestError(
                "`file` is required: a JSONL file, as a part of a multipart/form-data body.",
                "file",
                code="missing_required_parameter",
            )
        if (file.size or 0) > MAX_FILE:
            raise _too_large()
        home = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=scratch))
        try:
            with writing(home):
                await asyncio.to_thread(_write, file, home / "upload")
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            yield Upload(home / "upload", file.filename or "upload.jsonl", fields)
        finally:
            await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)


class _Limited:
    """Receives the messages of a request, as far as its body is within the limit."""

    def __init__(self, request: Request) -> None:
        self._request, self._size = request, 0

    async def __call__(self) -> Message:
        message = await self._request.receive()
        self._size += len(message.get("body", b""))
        if self._size > _MAX_FORM:
            raise _too_large()
        return message


def _write(file: UploadFile, path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(file.file, out, _PIECE)


def _too_large() -> RequestError:
    return RequestError(
        f"The file is larger than {MAX_FILE // 2**20} MiB; accepted: at most that.",
        "file",
        status=413,
        code="file_too_large",
    )
