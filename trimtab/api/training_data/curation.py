"""Curate the training data: search, read with lineage, leave out or approve, saved views, a report to draw."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field, model_validator

from store.db.database import Store
from store.rollout import releases
from store.training_data import curation, row_lineage, row_report, row_search, saved_views
from store.training_data.curation import State
from store.training_data.row_search import Search
from store.transfer.export_filter import Filter
from trimtab.api.access import Operator, ThePlatform, TheStore
from trimtab.api.base import Request, View
from trimtab.api.deployments.routes import known_deployment
from trimtab.api.training_data.models import Noun
from trimtab.background import call_store
from trimtab.platform import Platform

router = APIRouter(tags=["training data"])


class RowFilters(Request):
    """Which rows are looked for; what is left out takes all."""

    text: str | None = Field(None, description="every word in the prompt or a response, in any case")
    state: str | None = Field(None, description="excluded, approved or unreviewed")
    source: str | None = None
    language: str | None = Field(None, description="ISO 639-1 code, of the last message of the prompt")
    min_chars: int | None = Field(None, ge=0, description="characters of the response that is trained on")
    max_chars: int | None = Field(None, ge=0)
    max_agreement: float | None = Field(None, ge=0, le=1)
    deployment: str | None = None
    release: str | None = Field(None, description="`assistant@3` or its id: it gave the chosen answer")
    rater: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tag: str | None = None
    min_agreement: float | None = Field(None, ge=0, le=1)


class ReviewRequest(Request):
    """Which rows to put into which state: `ids`, or all that `filters` find."""

    ids: list[str] | None = Field(None, max_length=curation.MOST)
    filters: RowFilters | None = None
    state: State | None = Field(description="excluded, approved, or null: back to unreviewed")
    reason: str = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _one_of_both(self) -> ReviewRequest:
        if (self.ids is None) == (self.filters is None):
            raise ValueError("either ids or filters say which rows")
        return self


class ReviewedView(View):
    """What a review did."""

    changed: int = Field(description="rows that were in another state before")
    state: State | None


class SaveViewRequest(Request):
    """A search to keep."""

    noun: Noun
    filters: RowFilters


Filters = Annotated[RowFilters, Query()]


async def _search(platform: Platform, given: RowFilters) -> Search:
    """Return the search that filters describe, the release by its record id. Raises Problem or `NotFound`."""
    await known_deployment(platform, given.deployment)
    values = given.model_dump()
    if given.release is not None:
        values["release"] = (await call_store(platform.db, releases.get, given.release)).id
    where = Filter(**{name: values.pop(name) for name in Filter.__dataclass_fields__})
    return Search(**values, where=where)


class PageAt(RowFilters):
    """Filters, and a page of what they find."""

    limit: int = Field(50, ge=1, le=1000)
    after: str | None = None


@router.get("/rows/{noun}")
async def search(
    noun: Noun, platform: ThePlatform, principal: Operator, query: Annotated[PageAt, Query()]
) -> dict[str, Any]:
    """Search pairs, demonstrations or likes, newest first: `{rows, next, total}`; `next` goes into `after`."""
    asked = query.model_dump(exclude={"limit", "after"})
    wanted = await _search(platform, RowFilters(**asked))
    page = await call_store(platform.db, row_search.search, noun, wanted, query.limit, query.after)
    return {"rows": [row.to_json() for row in page.rows], "next": page.next, "total": page.total}


@router.get("/rows/{noun}/report")
async def report(noun: Noun, platform: ThePlatform, principal: Operator, query: Filters) -> dict[str, Any]:
    """Count what fits: lengths, sources, people, agreement, reviews; and what the newest snapshot left out."""
    return await call_store(platform.db, row_report.report, noun, await _search(platform, query))


@router.post("/rows/{noun}/review")
async def review(noun: Noun, body: ReviewRequest, platform: ThePlatform, principal: Operator) -> ReviewedView:
    """Leave rows out of later training sets and exports, approve them, or undo that; all of them or none."""
    wanted = await _search(platform, body.filters) if body.filters is not None else None

    def work(db: Store) -> int:
        ids = row_search.matching(db, noun, wanted) if wanted is not None else body.ids or []
        return curation.review(db, noun, ids, body.state, body.reason, principal.name)

    return ReviewedView(changed=await call_store(platform.db, work), state=body.state)


@router.get("/rows/{noun}/{row_id}")
async def row(noun: Noun, row_id: str, db: TheStore, principal: Operator) -> dict[str, Any]:
    """Return a row with its lineage: evidence, import, snapshots, releases that learned from it, and its reviews."""
    return await call_store(db, row_lineage.of_row, noun, row_id)


@router.get("/views")
async def list_views(db: TheStore, principal: Operator) -> list[dict[str, Any]]:
    """List the searches that are kept under a name."""
    return [view.to_json() for view in await call_store(db, saved_views.list_all)]


@router.put("/views/{name}")
async def save_view(name: str, body: SaveViewRequest, db: TheStore, principal: Operator) -> dict[str, Any]:
    """Keep a search under a name, in the place of one that had it."""
    filters = body.filters.model_dump(mode="json", exclude_none=True)
    return (await call_store(db, saved_views.save, name, body.noun, filters, principal.name)).to_json()


@router.delete("/views/{name}", status_code=204)
async def remove_view(name: str, db: TheStore, principal: Operator) -> None:
    """Delete a kept search."""
    await call_store(db, saved_views.remove, name, principal.name)
