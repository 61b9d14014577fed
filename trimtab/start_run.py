"""Asking for a run, for whoever asks: the API, the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store.db.database import Store
from store.errors import Conflict
from store.records import Run
from store.rollout import runs
from store.training_data import demonstrations, likes, pairs
from trimtab.background import call_store
from trimtab.runs.runner import Runner

_DATA: dict[str, tuple[Callable[[Store], int], str, str]] = {
    "dpo": (pairs.count, "preference pairs", "rank some responses"),
    "sft": (demonstrations.count, "demonstrations", "write better responses in Rank"),
    "kto": (lambda db: sum(likes.count(db).values()), "likes", "like and dislike some answers in Chat"),
}


async def start_run(db: Store, runner: Runner, *, method: str, deployment: str, **request: Any) -> Run:
    """Queue a run and drive it in the background. Raises Conflict when there is nothing to train on."""
    count, word, how = _DATA[method]
    if await call_store(db, count) == 0:
        raise Conflict(f"nothing to train on: there are no {word} yet; {how} or import {word}")
    run = await call_store(db, runs.create, method=method, deployment=deployment, **request)
    runner.submit(run.id)
    return run
