"""An evaluation's report as a page: self-contained HTML, or Markdown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, PlainTextResponse

from align.evaluation.reports import pages
from store.accounts import audit
from store.errors import Conflict
from store.rollout import evaluation_items, evaluations
from store.rollout.first_steps import LOOKED
from trimtab.api.access import Operator, ThePlatform
from trimtab.api.evals.items import item_view
from trimtab.background import call_store
from trimtab.people_votes import with_votes
from trimtab.platform import Platform

router = APIRouter()  # a part of the router of evaluations

WON = ("win", "judge")
"""Measures of items that say who won a pair of answers."""

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


@router.get("/{evaluation_id}/report.html", response_class=HTMLResponse)
async def as_html(evaluation_id: str, platform: ThePlatform, principal: Operator) -> HTMLResponse:
    """Show the report as one page that loads nothing: figures with their intervals, and answers side by side."""
    page = await _made(platform, evaluation_id, pages.page)
    await call_store(platform.db, audit.record_once, principal.name, LOOKED, evaluation_id)
    return HTMLResponse(page, headers=HEADERS)


@router.get("/{evaluation_id}/report.md", response_class=PlainTextResponse)
async def as_markdown(evaluation_id: str, platform: ThePlatform, principal: Operator) -> PlainTextResponse:
    """Show the report as Markdown."""
    text = await _made(platform, evaluation_id, pages.markdown)
    await call_store(platform.db, audit.record_once, principal.name, LOOKED, evaluation_id)
    return PlainTextResponse(text, media_type="text/markdown")


async def _made(platform: Platform, evaluation_id: str, make: Callable[[Any, Any], str]) -> str:
    """Make the report of what is stored. Raises Conflict where there is none yet."""
    evaluation = await call_store(platform.db, evaluations.get, evaluation_id)
    evaluation = await call_store(platform.db, with_votes, evaluation)
    if evaluation.report is None:
        raise Conflict(f"{evaluation_id} has no report: it is {evaluation.state}")
    rows = await call_store(platform.db, evaluation_items.list_all, evaluation_id)
    items = [
        item_view(row).model_dump() for row in rows if row["answer"] is not None or row["measure"] in WON
    ]
    return await asyncio.to_thread(make, evaluation.report, items)
