"""Whole files into the store: an upload, then an import that says how far it is and ends when its caller goes."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect

from store.db.database import Store
from store.errors import Invalid
from store.training_data.import_file import FileImport, Progress, import_file
from store.transfer import formats
from store.transfer.row_files import CONTAINERS
from trimtab.api import problems
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.deployments.routes import known_deployment
from trimtab.api.training_data.files import new_path
from trimtab.api.training_data.models import FileImportView, ImportOptionsView, Noun
from trimtab.config.writing import writing
from trimtab.platform import Platform

router = APIRouter(tags=["training data"])

LINES = "application/x-ndjson"
MAX_SHOWN = 100
MAX_SILENCE_S = 2.0
"""How long a stream says nothing at most, seconds: silence looks like a broken connection."""
PIECE = 1 << 18
"""Bytes of refused rows sent at a time."""
LEFT = 499
"""Status, in logs alone, of a request whose client did not wait for the answer."""

FILE = {
    "requestBody": {
        "description": "the file's bytes: JSONL, a JSON array, CSV or Parquet, also gzip or zstd",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "required": True,
    }
}


@dataclass(frozen=True)
class _Options:
    """What a caller asked for."""

    noun: str
    name: str
    format: str | None
    deployment: str | None
    dry_run: bool
    rejects: Path | None
    imported_by: str


class _ClientGone(Exception):
    """Ends an import whose caller no longer waits for it."""


@router.get("/imports/{noun}")
async def import_options(
    noun: Noun,
    platform: ThePlatform,
    principal: Operator,
    format: str | None = None,
    deployment: str | None = None,
) -> ImportOptionsView:
    """Describe what an import accepts. Options that an import would refuse are refused here, before a file is sent."""
    await _check(platform, noun, format, deployment)
    return ImportOptionsView(formats=list(formats.FORMATS[noun]), containers=list(CONTAINERS))


@router.post(
    "/imports/{noun}",
    openapi_extra=FILE,
    response_model=FileImportView,
    responses={200: {"content": {LINES: {"schema": {"type": "string"}}}}},
)
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
) -> Any:
    """Import a file, the request's body; its format is detected from its content unless it is named.

    `rejects` names a new file on the platform's machine for the refused rows, with number and reason. With
    `Accept: application/x-ndjson` the answer is a stream of lines, each an object with one key: `progress`, then
    `refused` for every refused row (`{row, why, data}`), and last `result`, or `problem` with its status.

    An import ends when its caller goes away: what was taken stays, and the same file adds the rest.
    """
    await _check(platform, noun, format, deployment)
    refused = await asyncio.to_thread(new_path, rejects, "rejects") if rejects else None
    options = _Options(noun, name, format, deployment, dry_run, refused, principal.name)
    streamed = LINES in request.headers.get("accept", "")
    work = _Import(platform, options, keep_refused=streamed)
    with suppress(ClientDisconnect, _ClientGone), ExitStack() as at_the_end:
        at_the_end.callback(work.end)
        await work.receive(request)
        if streamed:
            at_the_end.pop_all()  # the stream does it
            return StreamingResponse(_lines(work, request), media_type=LINES)
        async for _ in work.follow(request):
            pass
        return _view(work.result(), options)
    return Response(status_code=LEFT)


async def _check(platform: Platform, noun: str, format: str | None, deployment: str | None) -> None:
    await known_deployment(platform, deployment)
    if format is not None and format not in formats.FORMATS[noun]:
        raise Invalid("format", format, formats.FORMATS[noun])


async def _lines(work: _Import, request: Request) -> AsyncIterator[bytes]:
    try:
        async for progress in work.follow(request):
            yield _line("progress", progress)
        done = work.result()
        async for piece in work.refused():
            yield b"".join(b'{"refused": ' + line.rstrip() + b"}\n" for line in piece)
        yield _line("result", _view(done, work.options).model_dump())
    except _ClientGone:
        pass
    except Exception as error:
        yield _line("problem", problems.problem_details(request, error))
    finally:
        work.end()


def _line(kind: str, value: dict[str, Any]) -> bytes:
    return json.dumps({kind: value}).encode() + b"\n"


def _view(done: FileImport, options: _Options) -> FileImportView:
    return FileImportView(
        accepted=done.result.accepted,
        duplicates=done.result.duplicates,
        rejected=[row.to_json() for row in done.result.rejected[:MAX_SHOWN]],
        rejected_count=done.result.rejected_count,
        unused_columns=done.result.unused_columns,
        rules=done.result.rules,
        format=done.format,
        container=done.container,
        compression=done.compression,
        broke_off=done.broke_off,
        dry_run=options.dry_run,
        rejects=done.rejects if options.rejects else None,
    )


class _Import:
    """One file on its way: received, then followed until its result is there; `end` whatever becomes of it.

    `keep_refused` keeps the refused rows for `refused`, also where the caller named no file for them.
    """

    def __init__(self, platform: Platform, options: _Options, keep_refused: bool) -> None:
        self.options = options
        self._platform = platform
        self._scratch = Path(tempfile.mkdtemp(dir=platform.paths.scratch))
        self._upload = self._scratch / "upload"
        self._size = 0
        self._refused = options.rejects or (self._scratch / "refused.jsonl" if keep_refused else None)
        self._work: Future[FileImport] | None = None
        self._left = threading.Event()

    async def receive(self, request: Request) -> None:
        """Write the request's body to the disk. Raises ClientDisconnect, PathRefused."""
        with writing(self._upload), self._upload.open("wb") as file:
            async for chunk in request.stream():
                await asyncio.to_thread(file.write, chunk)
                self._size += len(chunk)

    async def follow(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        """Import and yield the progress: a `Progress`, and `waiting` while other imports are in front.

        The import ends where the client leaves; ask for its `result` then, too.
        """
        loop = asyncio.get_running_loop()
        reported: asyncio.Queue[Progress | None] = asyncio.Queue()

        def tell(progress: Progress | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(reported.put_nowait, progress)

        self._work = work = self._platform.long_work.submit_import(self._run, tell)
        work.add_done_callback(lambda _: tell(None))
        leaving = asyncio.create_task(self._watch(request, work))
        newest = Progress(0, self._size, 0, 0, 0, 0)
        try:
            while True:
                try:
                    progress = await asyncio.wait_for(reported.get(), MAX_SILENCE_S)
                except TimeoutError:
                    progress = newest
                if progress is None:
                    return
                newest = progress
                yield asdict(newest) | {"waiting": not (work.running() or work.done())}
        finally:
            leaving.cancel()

    def result(self) -> FileImport:
        """Return what became of the file, once `follow` has ended. Raises _ClientGone, and what the import raised."""
        assert self._work is not None
        try:
            return self._work.result()
        except CancelledError:  # it had not begun
            raise _ClientGone from None

    async def refused(self) -> AsyncIterator[list[bytes]]:
        """Yield the lines of the file of refused rows, some at a time."""
        assert self._refused is not None
        if not await asyncio.to_thread(self._refused.exists):
            return
        with await asyncio.to_thread(self._refused.open, "rb") as file:
            while lines := await asyncio.to_thread(file.readlines, PIECE):
                yield lines

    def end(self) -> None:
        """Stop what is under way, and remove what was received when that is done."""
        if self._work is None:
            self._remove()
        else:
            self._stop(self._work)
            self._work.add_done_callback(lambda _: self._remove())

    def _stop(self, work: Future[FileImport]) -> None:
        self._left.set()
        work.cancel()  # where it waits for its turn; what runs sees that its caller has left

    def _remove(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    async def _watch(self, request: Request, work: Future[FileImport]) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self._stop(work)

    def _run(self, db: Store, tell: Callable[[Progress], None]) -> FileImport:
        options = self.options

        def on_progress(progress: Progress) -> None:
            if self._left.is_set():
                raise _ClientGone
            tell(progress)

        try:
            with writing(self._refused or self._scratch):
                return import_file(
                    db,
                    self._upload,
                    options.noun,
                    format=options.format,
                    imported_by=options.imported_by,
                    deployment=options.deployment,
                    dry_run=options.dry_run,
                    rejects=self._refused,
                    on_progress=on_progress,
                    source=options.name,
                )
        finally:
            self._upload.unlink()  # here: to remove a large file may take longer than the event loop has
