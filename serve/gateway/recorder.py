"""Background writer: queues answered turns, and parses and stores them in batches.

The gateway hands over an answer as the bytes that went out; parsing them and waiting for the disk happen here, in
a thread, after the stream has ended. When the store cannot keep up, `wait_for_room` makes new requests wait; when it fails
(disk full) the batch is kept and retried: nothing is dropped but turns of a person who was erased meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from serve.gateway.exchange import Exchange
from store.conversations import conversations
from store.conversations.turn import Turn
from store.db import erasure_guard
from store.db.database import Store
from store.errors import StoreError

log = logging.getLogger(__name__)
MAX_BATCH, MAX_QUEUED, RETRY_S = 256, 4096, 5.0


class Recorder:
    """Writes turns to the store in the background. Belongs to one event loop; `aclose` writes what is queued."""

    def __init__(self, db: Store) -> None:
        self._db = db
        self._queue: list[Turn | Exchange] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.recorded = 0

    @property
    def backlog(self) -> int:
        """How many turns are queued."""
        return len(self._queue)

    def put(self, turn: Turn | Exchange) -> None:
        """Queue a turn; never waits."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="recorder")
        self._queue.append(turn)
        self._wake.set()
        if len(self._queue) >= MAX_QUEUED:
            self._room.clear()

    async def wait_for_room(self) -> None:
        """Wait while `MAX_QUEUED` turns or more are queued."""
        if not self._room.is_set():
            await self._room.wait()

    async def flush(self) -> None:
        """Wait until everything put so far is in the store."""
        while self._queue and self._task is not None and not self._task.done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def aclose(self) -> None:
        """Write what is queued and stop; what a failing store refuses even now is logged as lost."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._queue:
            log.error("%d turns could not be written to the store and are lost", len(self._queue))

    async def _run(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._queue[:MAX_BATCH]
            try:
                await asyncio.to_thread(self._write, batch)
            except Exception as error:
                if len(batch) > 1 and not isinstance(error, StoreError | OSError):
                    batch = await self._one_by_one(batch)
                elif self._closing:
                    return
                else:
                    log.exception("turns cannot be written; retrying in %.0f s", RETRY_S)
                    self._wake.clear()
                    await asyncio.sleep(RETRY_S)
                    continue
            del self._queue[: len(batch)]
            self.recorded += len(batch)
            if len(self._queue) < MAX_QUEUED:
                self._room.set()

    async def _one_by_one(self, batch: list[Turn | Exchange]) -> list[Turn | Exchange]:
        """Write turns singly so that one that cannot be written does not hold up the others."""
        for turn in batch:
            try:
                await asyncio.to_thread(self._write, [turn])
            except Exception:
                log.exception("a turn of model %s cannot be written and is dropped", turn.model)
        return batch

    def _write(self, batch: Sequence[Turn | Exchange]) -> None:
        turns = [item.turn() if isinstance(item, Exchange) else item for item in batch]
        with self._db.atomic():  # an erasure comes before it or after it
            conversations.record_turns(
                self._db,
                [
                    turn
                    for turn in turns
                    if turn is not None
                    and not erasure_guard.erased_since(self._db, turn.user or turn.key_id, turn.created_at)
                ],
            )
