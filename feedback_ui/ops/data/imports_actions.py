"""Importing a file: sent as it is read, followed while the platform takes its rows, and ended when nobody follows it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from feedback_ui import texts
from trimtab_client import ApiError, AsyncClient, ndjson
from trimtab_client.values import Kind

PIECE = 1 << 20
"""Bytes sent at a time."""


@dataclass(frozen=True)
class Import:
    """How far an import is: the last reported progress, and in the end its result.

    `refused` is a file of all refused rows, where there are any; `put_away` removes it.
    """

    dry_run: bool
    progress: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    refused: Path | None = None
    stopped: bool = False

    @property
    def taken(self) -> bool:
        """Whether every row of the file has been dealt with."""
        return self.result is not None and not self.dry_run


class Stop:
    """What a person asks of an import that is under way."""

    def __init__(self) -> None:
        self.said = False


class _Stopped(Exception):
    """Ends an upload that was cancelled."""


async def follow(
    client: AsyncClient, path: Path, kind: Kind, deployment: str | None, dry_run: bool, stop: Stop
) -> AsyncGenerator[Import, None]:
    """Import a file and yield how far that is; after `stop` the last says so. Closing the iterator ends the import, too.

    Raises `ApiError`, with 422 where the file is no longer there.
    """
    now = Import(dry_run)
    yield now
    try:
        source = path.open("rb")
    except OSError as error:
        raise ApiError(422, "Invalid", texts.DATA_IMPORT_GONE) from error
    refused = _Refused(path)
    sent = client.data.import_file(
        kind, _pieces(source, stop), name=path.name, deployment=deployment or None, dry_run=dry_run
    )
    try:
        with source, refused:
            async with aclosing(sent) as lines:
                async for line in lines:
                    if "result" in line:
                        now = replace(now, result=line["result"], refused=refused.path)
                    elif stop.said:
                        raise _Stopped
                    elif "refused" in line:
                        refused.write(line["refused"])
                    else:
                        now = replace(now, progress=line["progress"])
                        yield now
    except _Stopped:
        now = replace(now, stopped=True)
    yield now


def put_away(done: Import, upload: Path) -> None:
    """Remove what an import left in temporary directories; the upload stays where it has not been taken whole."""
    if done.refused:
        shutil.rmtree(done.refused.parent, ignore_errors=True)
    if done.taken:
        upload.unlink(missing_ok=True)


async def _pieces(source: IO[bytes], stop: Stop) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(source.read, PIECE):
        if stop.said:
            raise _Stopped
        yield piece


class _Refused:
    """The file of refused rows, under a name that a person recognizes among downloads; `path` once there is one.

    It goes at once where the import does not come to its end.
    """

    def __init__(self, source: Path) -> None:
        self.path: Path | None = None
        self._name = f"{source.name}.rejects.jsonl"
        self._file: IO[str] | None = None

    def write(self, row: dict[str, Any]) -> None:
        if self._file is None:
            self.path = Path(tempfile.mkdtemp()) / self._name
            self._file = self.path.open("w", encoding="utf-8")
        self._file.write(ndjson.line(row))

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None and self.path is not None:
            self._file.close()
            if kind is not None:
                shutil.rmtree(self.path.parent, ignore_errors=True)
