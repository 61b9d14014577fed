"""Training data: pairs, demonstrations and likes; imports, exports, snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal

from trimtab_client import ndjson
from trimtab_client.errors import problem_error
from trimtab_client.resources.base import Resource
from trimtab_client.transport import given, path
from trimtab_client.types import Job
from trimtab_client.values import Json, Kind, Rows

Content = bytes | Iterable[bytes] | AsyncIterable[bytes]
"""A file's bytes, whole or in pieces; a file opened with "rb" is one too."""


class Data(Resource):
    """Rows to train on."""

    async def pairs(
        self, limit: int | None = None, after: str | None = None, deployment: str | None = None
    ) -> Rows:
        """GET /api/pairs: one page of preference pairs."""
        return list(await self._http.get("/api/pairs", limit=limit, after=after, deployment=deployment) or ())

    async def pair_stats(self) -> Json:
        """GET /api/pairs/stats: counts, lengths and length bias."""
        return await self._http.get("/api/pairs/stats")

    async def make_pairs(self, body: Mapping[str, Any]) -> Job:
        """POST /api/pairs/make: have pairs made of sampled answers; a job."""
        job: Job = await self._http.post("/api/pairs/make", dict(body))
        return job

    async def plan_pairs(self, body: Mapping[str, Any]) -> Json:
        """POST /api/pairs/make/plan: the requests and time that it would take; starts nothing."""
        return await self._http.post("/api/pairs/make/plan", dict(body))

    async def pair_lineage(self, pair: str) -> Rows:
        """GET /api/pairs/{id}/lineage: the releases that learned from a pair."""
        return list(await self._http.get(path("api", "pairs", pair, "lineage")) or ())

    async def demonstrations(
        self, limit: int | None = None, after: str | None = None, deployment: str | None = None
    ) -> Rows:
        """GET /api/demonstrations: one page of demonstrations."""
        params = given(limit=limit, after=after, deployment=deployment)
        return list(await self._http.get("/api/demonstrations", **params) or ())

    async def remove(self, kind: Kind, ident: str, reason: str) -> Json:
        """DELETE /api/{kind}/{id}: take a row out of the training data; the reason is audited."""
        return await self._http.delete(path("api", kind, ident), reason=reason)

    async def rows(self, /, kind: Kind, **query: Any) -> Json:
        """GET /api/rows/{kind}: search rows -> `{rows, next, total}`; limit, after, text, state, source, language, …."""
        return await self._http.get(path("api", "rows", kind), **given(**query))

    async def row(self, kind: Kind, ident: str) -> Json:
        """GET /api/rows/{kind}/{id}: a row with its lineage and reviews."""
        return await self._http.get(path("api", "rows", kind, ident))

    async def row_report(self, /, kind: Kind, **filters: Any) -> Json:
        """GET /api/rows/{kind}/report: lengths, sources, people, agreement, reviews, what was left out."""
        return await self._http.get(path("api", "rows", kind, "report"), **given(**filters))

    async def review(
        self,
        kind: Kind,
        state: Literal["excluded", "approved"] | None,
        reason: str,
        ids: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> Json:
        """POST /api/rows/{kind}/review: put rows (`ids`, or what `filters` find) into a state; None undoes that."""
        which = given(ids=None if ids is None else list(ids), filters=filters)
        return await self._http.post(
            path("api", "rows", kind, "review"), {**which, "state": state, "reason": reason}
        )

    async def views(self) -> Rows:
        """GET /api/views: searches that are kept under a name."""
        return list(await self._http.get("/api/views") or ())

    async def save_view(self, name: str, kind: Kind, filters: Mapping[str, Any]) -> Json:
        """PUT /api/views/{name}: keep a search."""
        return await self._http.put(path("api", "views", name), {"noun": kind, "filters": dict(filters)})

    async def remove_view(self, name: str) -> None:
        """DELETE /api/views/{name}: delete a kept search."""
        await self._http.delete(path("api", "views", name))

    async def import_options(
        self, kind: Kind, format: str | None = None, deployment: str | None = None
    ) -> Json:
        """GET /api/imports/{kind}: formats that an import accepts; raises `ApiError` for options it refuses."""
        return await self._http.get(path("api", "imports", kind), format=format, deployment=deployment)

    async def import_file(
        self,
        kind: Kind,
        content: Content,
        *,
        name: str | None = None,
        format: str | None = None,
        deployment: str | None = None,
        dry_run: bool = False,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """POST /api/imports/{kind}: send a file in pieces, then yield the import's progress.

        Each is an object with one key: `progress`, `refused` (a row) and, last, `result`. Closing the iterator ends
        the import. Raises `ApiError` before the first, or instead of the result.
        """
        params = given(name=name, format=format, deployment=deployment, dry_run=str(dry_run).lower())
        async with self._http.stream(
            "POST",
            path("api", "imports", kind),
            content=_pieces(content),
            params=params,
            headers={"Accept": "application/x-ndjson"},
        ) as response:
            async for line in ndjson.objects(response.aiter_bytes()):
                if (problem := line.get("problem")) is not None:
                    raise problem_error(problem["status"], "Import failed", problem)
                yield line
                if "result" in line:
                    return
        raise self._http.unreachable(EOFError("the platform stopped before the import had ended"))

    async def export(self, /, kind: Kind, file: str, format: str = "trl", **where: Any) -> Json:
        """POST /api/exports/{kind}: write rows to `file`, a path on the platform's machine -> `{file, rows, format}`.

        `where` filters the rows: deployment, release, rater, since, until, tag, min_agreement.
        """
        return await self._http.post(path("api", "exports", kind), {"file": file, "format": format, **where})

    async def snapshots(self) -> Rows:
        """GET /api/snapshots, newest first."""
        return list(await self._http.get("/api/snapshots") or ())

    async def snapshot(self, ident: str) -> Json:
        """GET /api/snapshots/{id}: settings, rows, data report."""
        return await self._http.get(path("api", "snapshots", ident))


async def _pieces(content: Content) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        yield content
    elif isinstance(content, AsyncIterable):
        async for piece in content:
            yield piece
    else:
        pieces = iter(content)
        while (read := await asyncio.to_thread(next, pieces, None)) is not None:
            yield read
