"""Turns on their way to the store: taken at once, parsed and written later, in batches.

The gateway hands over an answer as the bytes that went out; parsing them and waiting for the disk happen here, in
a thread, after the stream has ended. When the store can not keep up, `room` makes new requests wait, and when it fails
(disk full) the batch is kept and tried again: nothing is dropped, but what a person said who was forgotten meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from store.db import erasure_guard
from store.db.database import Store
from store.errors import Invalid, StoreError
from store.feedback import conversations
from store.feedback.turn import Turn
from store.values import conversation as read_conversation

log = logging.getLogger(__name__)
BATCH, MOST_WAITING, RETRY_S = 256, 4096, 5.0


@dataclass(slots=True)
class Exchange:
    """One answered request as the gateway saw it: `chunks` are the bytes of the answer, a stream or JSON."""

    conversation_id: str
    messages: Sequence[Mapping[str, Any]]
    stream: bool
    model: str
    deployment: str | None
    release: str | None
    lane: str
    user: str | None
    key_id: str | None
    source: str = "api"
    task: str | None = None
    chunks: list[bytes] = field(default_factory=list)
    usage: Mapping[str, Any] | None = None
    first_token_s: float | None = None
    seconds: float | None = None
    error: str | None = None
    stopped: bool = False
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def turn(self) -> Turn | None:
        """Return the turn to record, None where there is none: no completion id, or content that is not text."""
        answer = read_answer(b"".join(self.chunks), self.stream)
        if answer.id is None:
            return None
        try:
            messages = read_conversation(list(self.messages))
        except Invalid:
            return None  # images and tool calls are not kept
        usage = self.usage or answer.usage
        return Turn(
            completion_id=answer.id,
            conversation_id=self.conversation_id,
            messages=messages,
            answer=answer.text,
            deployment=self.deployment,
            release=self.release,
            lane=self.lane,
            model=self.model,
            user=self.user,
            key_id=self.key_id,
            source=self.source,
            task=self.task,
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            finish_reason="client_stopped" if self.stopped else answer.finish_reason,
            first_token_s=self.first_token_s,
            seconds=self.seconds,
            error=self.error,
            created_at=self.created_at,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a response says: the first choice's text (None without any), the completion's id, usage."""

    id: str | None
    text: str | None
    finish_reason: str | None
    usage: Mapping[str, Any]


def read_answer(data: bytes, stream: bool) -> Answer:
    """Read an answer from the bytes of a response; a stream may end anywhere."""
    ident: str | None = None
    finish: str | None = None
    usage: Mapping[str, Any] = {}
    parts: list[str] = []
    seen = False
    for value in _objects(data, stream):
        ident = ident or value.get("id")
        usage = value.get("usage") or usage
        for choice in value.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            message = choice.get("delta") if stream else choice.get("message")
            if message and message.get("content") is not None:
                seen = True
                parts.append(message["content"])
            finish = choice.get("finish_reason") or finish
    return Answer(ident, "".join(parts) if seen else None, finish, usage)


def _objects(data: bytes, stream: bool) -> list[dict[str, Any]]:
    texts = [data]
    if stream:
        texts = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: {")]
    found = []
    for text in texts:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue  # the last event of a broken stream
        if isinstance(value, dict):
            found.append(value)
    return found


class Recorder:
    """Writes turns to the store in the background. Belongs to one event loop; `aclose` writes what waits."""

    def __init__(self, db: Store) -> None:
        self._db = db
        self._waiting: list[Turn | Exchange] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.recorded = 0

    @property
    def backlog(self) -> int:
        """How many turns wait to be written."""
        return len(self._waiting)

    def put(self, turn: Turn | Exchange) -> None:
        """Take a turn; never waits."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="recorder")
        self._waiting.append(turn)
        self._wake.set()
        if len(self._waiting) >= MOST_WAITING:
            self._room.clear()

    async def room(self) -> None:
        """Wait while too many turns wait to be written."""
        if not self._room.is_set():
            await self._room.wait()

    async def flush(self) -> None:
        """Wait until everything put so far is in the store."""
        while self._waiting and self._task is not None and not self._task.done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def aclose(self) -> None:
        """Write what waits and stop; what a failing store refuses even now is logged as lost."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._waiting:
            log.error("%d turns could not be written to the store and are lost", len(self._waiting))

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._waiting[:BATCH]
            try:
                await asyncio.to_thread(self._write, batch)
            except Exception as error:
                if len(batch) > 1 and not isinstance(error, StoreError | OSError):
                    batch = await self._one_by_one(batch)
                elif self._closing:
                    return
                else:
                    log.exception("turns can not be written; trying again in %.0f s", RETRY_S)
                    self._wake.clear()
                    await asyncio.sleep(RETRY_S)
                    continue
            del self._waiting[: len(batch)]
            self.recorded += len(batch)
            if len(self._waiting) < MOST_WAITING:
                self._room.set()

    async def _one_by_one(self, batch: list[Turn | Exchange]) -> list[Turn | Exchange]:
        """Write turns singly so that one that can not be written does not hold up the others."""
        for turn in batch:
            try:
                await asyncio.to_thread(self._write, [turn])
            except Exception:
                log.exception("a turn of model %s can not be written and is dropped", turn.model)
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
                    and not erasure_guard.since(self._db, turn.user or turn.key_id, turn.created_at)
                ],
            )
