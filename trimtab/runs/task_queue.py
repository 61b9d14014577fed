"""Background tasks that take turns: runs and evaluations share the machine, so one works at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class TaskQueue:
    """Runs named tasks one at a time, in the order in which they were submitted, in the running event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def busy(self) -> bool:
        """Whether a task works now."""
        return self._turn.locked()

    def __contains__(self, name: str) -> bool:
        return name in self._tasks

    def submit(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call `work` once every task before it has ended; a name that is queued already is not queued twice."""
        if name in self._tasks:
            return
        task = asyncio.create_task(self._take_turn(work), name=name)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _take_turn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._turn:
            await work()

    async def cancel(self, name: str) -> None:
        """Cancel a task, queued or at work, and wait until it has ended; without such a task nothing happens."""
        task = self._tasks.get(name)
        if task is not None:
            _cancel(task)
            await asyncio.wait([task])

    async def aclose(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            _cancel(task)
        await asyncio.gather(*tasks, return_exceptions=True)


def _cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task once: a second time would end what it does to record that it was cancelled."""
    if not task.cancelling():
        task.cancel()
