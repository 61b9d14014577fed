"""Asking for a run, for whoever asks: the API, the scheduler."""

from __future__ import annotations

import asyncio
from typing import Any

from store import demonstrations, pairs, runs
from store.database import Store
from store.errors import Conflict
from store.records import Run
from trimtab.loop import Loop


async def start_run(db: Store, loop: Loop, *, method: str, deployment: str, **request: Any) -> Run:
    """Queues a run and drives it in the background. Raises Conflict when there is nothing to train on."""
    noun, word = (pairs, "preference pairs") if method == "dpo" else (demonstrations, "demonstrations")
    if await asyncio.to_thread(noun.count, db) == 0:
        raise Conflict(f"nothing to train on: there are no {word} yet; rank some responses or import {word}")
    run: Run = await asyncio.to_thread(runs.create, db, method=method, deployment=deployment, **request)
    loop.submit(run.id)
    return run
