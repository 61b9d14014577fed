"""Answers that are being written, apart from the pages that show them.

A page that is closed, reloaded or cut off does not end its answer: the answer goes on here, the platform records it, and
a page that opens the conversation again follows it. Only a stop ends it early, or the end of the platform. It waits for
an engine without any page for at most `MAX_UNWATCHED_S`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import NamedTuple

import gradio as gr

from feedback_ui import texts
from feedback_ui.chat import actions
from feedback_ui.chat.actions import Progress
from feedback_ui.connection import Connection
from feedback_ui.conversation import Talk
from trimtab_client import ApiError, AsyncClient

Steps = Callable[[AsyncClient], AsyncIterator[Progress]]
"""Streams an answer with a client."""

STOPPED_KEPT_S, FAILED_KEPT_S = 2.0, 600.0
"""How long an answer that ended early can still be followed; a whole one until the platform has recorded it."""
MAX_UNWATCHED_S, STOP_S = 900.0, 5.0


class Key(NamedTuple):
    """Whose answer it is, by the name of the caller, and in which conversation."""

    caller: str
    conversation: str


class Live:
    """One answer that is being written; `before` is what stood in its place."""

    def __init__(self, talk: Talk, before: Talk | None) -> None:
        self.asked, self.before = talk, before
        self.step = Progress(talk)
        self.error: Exception | None = None
        self.is_done = False
        self.task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._watched_at = time.monotonic()
        self._watchers = 0

    @property
    def talk(self) -> Talk:
        """The conversation as far as it is written."""
        return self.step.talk

    @property
    def is_unwatched(self) -> bool:
        """Whether no page has shown it for a long time."""
        return not self._watchers and time.monotonic() - self._watched_at > MAX_UNWATCHED_S

    def change(
        self, step: Progress | None = None, error: Exception | None = None, done: bool = False
    ) -> None:
        """Note the next step, or the end."""
        self.step, self.error, self.is_done = step or self.step, error, done
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncIterator[Progress]:
        """Yield the newest step, then each that comes; raises what ended the answer."""
        self._watchers += 1
        try:
            seen: Progress | None = None
            while True:
                changed = self._changed
                if self.step is not seen:
                    seen = self.step
                    yield seen
                elif self.is_done:
                    break
                else:
                    await changed.wait()
            if self.error is not None:
                raise self.error
        finally:
            self._watchers -= 1
            self._watched_at = time.monotonic()


class LiveAnswers:
    """The answers under way of one application, by caller and conversation. Belongs to one event loop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found: dict[Key, Live] = {}

    async def find(self, client: AsyncClient, conversation: str | None) -> Live | None:
        """Return the caller's answer in a conversation, one that has just ended too."""
        return self._found.get(await self._key(client, conversation)) if conversation else None

    async def is_busy(self, client: AsyncClient, conversation: str | None) -> bool:
        """Return whether an answer in a conversation is still being written."""
        live = await self.find(client, conversation)
        return live is not None and not live.is_done

    async def start(
        self, client: AsyncClient, talk: Talk, request: gr.Request, before: Talk | None, steps: Steps
    ) -> Live:
        """Have an answer written, with a client of its own that speaks for the same caller."""
        live = Live(talk, before)
        key = await self._key(client, talk.conversation)
        self._found[key] = live
        live.task = asyncio.create_task(self._write(key, live, request, steps), name="live answer")
        return live

    async def stop(self, client: AsyncClient, conversation: str | None) -> None:
        """End the answer in a conversation, if one is being written."""
        live = await self.find(client, conversation)
        if live is not None and live.task is not None and not live.is_done:
            live.task.cancel()
            await asyncio.wait({live.task}, timeout=STOP_S)

    def forget(self, live: Live) -> None:
        """Take out an answer whose failure was shown."""
        self._found = {key: one for key, one in self._found.items() if one is not live}

    async def _write(self, key: Key, live: Live, request: gr.Request, steps: Steps) -> None:
        kept = 0.0
        try:
            async with self._connection.client(request) as client:
                async with aclosing(steps(client)) as written:  # type: ignore[type-var]
                    async for step in written:
                        live.change(step)
                        if step.waiting is not None and live.is_unwatched:
                            raise ApiError(503, "engine_unavailable", texts.CHAT_UNWATCHED)
                live.change(done=True)
                await _recorded(client, live.talk)
        except asyncio.CancelledError:
            kept = STOPPED_KEPT_S
            live.change(done=True)
        except Exception as error:
            kept = FAILED_KEPT_S
            live.change(error=error, done=True)
        asyncio.get_running_loop().call_later(kept, self._drop, key, live)

    def _drop(self, key: Key, live: Live) -> None:
        if self._found.get(key) is live:
            del self._found[key]

    async def _key(self, client: AsyncClient, conversation: str | None) -> Key:
        return Key(await actions.caller(client), conversation or "")


async def _recorded(client: AsyncClient, talk: Talk) -> None:
    """Wait until the platform has the answer at the end, which it records a moment after its last token."""
    for _ in range(20):
        with suppress(ApiError):
            stored = await actions.reopen(client, talk.conversation or "")
            if any(turn.completion_id == talk.turns[-1].completion_id for turn in stored.turns):
                return
        await asyncio.sleep(0.25)
