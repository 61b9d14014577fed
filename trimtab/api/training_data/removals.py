"""Single rows are taken out of the training data, with a reason."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from store.training_data import removal
from trimtab.api.access import Operator, TheStore
from trimtab.api.training_data.models import RemovalView
from trimtab.background import call_store

router = APIRouter(tags=["training data"])

Reason = Annotated[
    str, Query(min_length=1, max_length=1000, description="why it goes; kept in the audit log")
]


@router.delete("/pairs/{pair_id}")
async def remove_pair(pair_id: str, db: TheStore, principal: Operator, reason: Reason) -> RemovalView:
    """Remove a pair from the training data of later runs; `releases` learned from it."""
    return RemovalView(**await call_store(db, removal.remove, "pairs", pair_id, reason, principal.name))


@router.delete("/demonstrations/{demonstration_id}")
async def remove_demonstration(
    demonstration_id: str, db: TheStore, principal: Operator, reason: Reason
) -> RemovalView:
    """Remove a demonstration from the training data of later runs; `releases` learned from it."""
    done = await call_store(db, removal.remove, "demonstrations", demonstration_id, reason, principal.name)
    return RemovalView(**done)


@router.delete("/likes/{like_id}")
async def remove_like(like_id: str, db: TheStore, principal: Operator, reason: Reason) -> RemovalView:
    """Remove a like or dislike, and its demonstration, from the training data; `releases` learned from it."""
    return RemovalView(**await call_store(db, removal.remove, "likes", like_id, reason, principal.name))
