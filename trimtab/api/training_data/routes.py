"""Preference pairs and demonstrations: list and import."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import BytesIO
from types import ModuleType
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response

from store.db.database import Store
from store.errors import Invalid
from store.training_data import demonstrations, pairs
from store.training_data.import_result import ImportResult
from store.transfer import json_rows
from store.transfer.decompression import BreaksOff
from trimtab.api.access import Operator, Rater, ThePlatform
from trimtab.api.deployments.routes import known_deployment
from trimtab.api.problems import Problem
from trimtab.api.training_data.models import DemonstrationView, ImportView, PairView
from trimtab.api.views import demonstration_view, pair_view
from trimtab.background import call_store
from trimtab.platform import Platform

router = APIRouter(tags=["training data"])

ROWS = {
    "requestBody": {
        "description": "an array of rows, `{rows: [...]}`, one row, or JSON lines",
        "content": {"application/json": {"schema": {}}, "application/jsonl": {"schema": {"type": "string"}}},
        "required": True,
    }
}


class PageQuery:
    """Query of a page of rows: at most `limit`, from below the row `after`, of a deployment or of all."""

    def __init__(self, limit: int = 100, after: str | None = None, deployment: str | None = None) -> None:
        self.limit = max(1, min(limit, 1000))
        self.after, self.deployment = after, deployment


Page = Annotated[PageQuery, Depends()]


class Listed(Protocol):
    """A record that is listed."""

    @property
    def id(self) -> str:
        """The id, by which the next page goes on."""
        ...


R = TypeVar("R", bound=Listed)


async def _page(
    platform: Platform, response: Response, path: str, list_page: Callable[..., list[R]], page: PageQuery
) -> list[R]:
    """Return a page of rows, and set the `Link` header where there may be more."""
    await known_deployment(platform, page.deployment)
    found: list[R] = await call_store(
        platform.db, list_page, page.limit, after=page.after, deployment=page.deployment
    )
    if len(found) == page.limit:
        query = {"limit": page.limit, "after": found[-1].id}
        if page.deployment is not None:
            query["deployment"] = page.deployment
        response.headers["Link"] = f'<{path}?{urlencode(query)}>; rel="next"'
    return found


@router.get("/pairs")
async def list_pairs(
    platform: ThePlatform, principal: Rater, response: Response, page: Page
) -> list[PairView]:
    """List preference pairs, newest first; the `Link` header leads to the next page."""
    return [pair_view(row) for row in await _page(platform, response, "/api/pairs", pairs.list_page, page)]


@router.get("/pairs/stats")
async def pair_stats(platform: ThePlatform, principal: Rater) -> dict[str, Any]:
    """Report counts, lengths and length bias of the preference pairs."""
    return await call_store(platform.db, pairs.stats)


@router.post("/pairs", openapi_extra=ROWS)
async def import_pairs(
    request: Request, platform: ThePlatform, principal: Operator, deployment: str | None = None
) -> ImportView:
    """Import rows `{messages|prompt, chosen, rejected, …}`; bad rows are reported and stop nothing."""
    return await _import(request, platform, pairs, principal.name, deployment)


@router.get("/demonstrations")
async def list_demonstrations(
    platform: ThePlatform, principal: Rater, response: Response, page: Page
) -> list[DemonstrationView]:
    """List demonstrations, newest first; the `Link` header leads to the next page."""
    found = await _page(platform, response, "/api/demonstrations", demonstrations.list_page, page)
    return [demonstration_view(row) for row in found]


@router.post("/demonstrations", openapi_extra=ROWS)
async def import_demonstrations(
    request: Request, platform: ThePlatform, principal: Operator, deployment: str | None = None
) -> ImportView:
    """Import rows `{messages|prompt, completion}`; bad rows are reported and stop nothing."""
    return await _import(request, platform, demonstrations, principal.name, deployment)


async def _import(
    request: Request, platform: Platform, noun: ModuleType, who: str, deployment: str | None
) -> ImportView:
    await known_deployment(platform, deployment)
    body = await request.body()

    def work(db: Store) -> ImportResult:
        done: ImportResult = noun.import_rows(db, _rows(body), "api", imported_by=who, deployment=deployment)
        return done

    return ImportView.model_validate(await asyncio.wrap_future(platform.long_work.submit_import(work)))


def _rows(body: bytes) -> list[object]:
    """Return the rows of a body: a JSON array, `{rows: […]}`, one object, or JSON lines; of a bad row, why it is none."""
    accepted = "a JSON array of rows, {rows: [...]}, one row, or JSON lines"
    if body.lstrip().startswith(b"["):
        try:
            return list(json_rows.elements(BytesIO(body)))
        except BreaksOff as error:
            raise Problem(400, f"the body is not JSON: {error}", field="body", accepted=accepted) from error
    lines = [line.decode("utf-8", "surrogateescape") for line in body.split(b"\n") if line.strip()]
    whole = _parsed("\n".join(lines), "body")
    if isinstance(whole, Invalid):
        if len(lines) < 2:
            raise Problem(400, str(whole), field="body", accepted=accepted) from whole
        return [_parsed(line) for line in lines]
    rows = whole.get("rows", [whole]) if isinstance(whole, dict) else whole
    if not isinstance(rows, list):
        raise Problem(422, f"rows: a {type(rows).__name__} is not accepted", field="rows", accepted=accepted)
    return rows


def _parsed(text: str, field: str = "row") -> object:
    try:
        return json_rows.parse(text, field)
    except Invalid as error:
        return error
