"""Start and stop the platform's parts; each stops in the reverse order of its start, whatever fails in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from typing import Any

from store.errors import StoreDamaged
from trimtab import deleted_conversations, erasure
from trimtab.platform import Platform

log = logging.getLogger(__name__)


@asynccontextmanager
async def running(platform: Platform) -> AsyncIterator[None]:
    """Run everything: engines, runs, scheduler. On leaving, all of it is stopped and the store closed."""
    async with AsyncExitStack() as stack:
        stack.enter_context(closing(platform.db))
        stack.callback(platform.paths.platform.unlink, missing_ok=True)
        await stack.enter_async_context(platform.parts.running())
        stack.enter_context(closing(platform.long_work))
        await stack.enter_async_context(aclosing(platform.loop.workers))
        await stack.enter_async_context(aclosing(platform.runner.queue))
        platform.long_work.reserve_short_threads()
        await platform.serving.reconciler.refresh()
        # the last to start and the first to stop, so that none of it starts another run or worker meanwhile
        await stack.enter_async_context(_in_background(_jobs(platform)))
        await platform.runner.start()
        await platform.jobs.start()
        await asyncio.to_thread(erasure.delete_erased_files, platform.db, platform.paths)
        yield


def _jobs(platform: Platform) -> dict[str, Coroutine[Any, Any, None]]:
    """Return what goes on for as long as the platform lives, by name."""
    jobs: dict[str, Coroutine[Any, Any, None]] = {
        "engines": platform.serving.start(),
        "reconciler": platform.serving.reconciler.run(),
        "pruning": platform.serving.prune_hourly(),
        "scheduler": platform.scheduler.run(),
        "screens": platform.screens.run(),
        "warm worker": _keep_warm(platform),
        "canaries": platform.rollout.watch_canaries(),
        "deleted conversations": deleted_conversations.watch(platform),
    }
    if not platform.db.verified:
        jobs["reading the store"] = _look_for_damage(platform)
    return jobs


@asynccontextmanager
async def _in_background(jobs: dict[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run the jobs as tasks, and cancel them on leaving."""
    tasks = [asyncio.create_task(job, name=name) for name, job in jobs.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_warm(platform: Platform) -> None:
    """Keep a worker ready for the next run, once every base has an engine that serves."""
    for base in platform.serving.bases:
        await platform.serving.wait_ready(base)
    await platform.loop.workers.keep_warm(lambda: platform.runner.queue.busy)


async def _look_for_damage(platform: Platform) -> None:
    """Read a store that was too large to be read before the start, while engines load; damage stops the platform."""
    try:
        await asyncio.to_thread(platform.db.verify_blocks)
    except StoreDamaged as error:
        log.error("%s", error)
        platform.damage = error
        platform.stop()
