"""How an engine on a card makes room there for a training run, and takes it back.

Asleep (vLLM's sleep mode, level 1) it keeps its process and CUDA's context; its weights wait in the machine's memory
and it answers nothing. Shrunk it is started again with the least KV cache, and answers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from serve.engine.cards.gpu_memory import MIN_TOKENS
from serve.errors import EngineFailed

if TYPE_CHECKING:
    from serve.engine.engine import Engine

SLEEP_ROUTE, WAKE_ROUTE = "/v1/trimtab/sleep", "/v1/trimtab/wake"
CHANGE_S = 300.0
"""Timeout of going to sleep, which waits for answers under way, and of waking, which copies the weights back."""
ASLEEP = "asleep while a run trains on its card"
log = logging.getLogger(__name__)


async def sleep(engine: Engine) -> None:
    """Have an engine that serves end its answers and give up its memory. Raises `EngineFailed`; then it serves on."""
    if engine.state != "ready":
        raise EngineFailed(engine.spec.name, f"it is {engine.state}")
    engine._set("sleeping", ASLEEP)
    try:
        await engine.request("POST", SLEEP_ROUTE, timeout=CHANGE_S)
    except EngineFailed:
        await wake(engine)  # it may be asleep all the same
        raise


async def wake(engine: Engine) -> None:
    """Have an engine serve again; one that does not wake, or has ended, is started again by its supervisor."""
    if engine.state != "sleeping":
        return
    try:
        await engine.request("POST", WAKE_ROUTE, timeout=CHANGE_S)
        await engine.probe(CHANGE_S)
    except EngineFailed as error:
        log.error("engine %s did not wake and is started again: %s", engine.spec.name, error.message)
        await engine.restart("starting again, since it did not wake")
        return
    if engine.state == "sleeping":  # else it ended meanwhile
        engine._set("ready", "serving")


async def shrink(engine: Engine) -> None:
    """Start an engine again with the least KV cache.

    Raises `EngineFailed` when it does not serve in time, or serves with its whole cache since it did not start with less.
    """
    if engine.state != "ready":
        raise EngineFailed(engine.spec.name, f"it is {engine.state}")
    engine.cache_limit = MIN_TOKENS
    await engine.restart("starting again with a smaller cache while a run trains on its card")
    await engine.wait_ready(engine.spec.start_timeout_s)
    if engine.cache_limit is None:
        raise EngineFailed(
            engine.spec.name, "it did not start with a smaller cache, and serves with its whole one"
        )


async def grow(engine: Engine) -> None:
    """Start a shrunk engine again with its whole KV cache; does not wait for it."""
    if engine.cache_limit is None:
        return
    engine.cache_limit = None
    await engine.restart("starting again with its whole cache")
