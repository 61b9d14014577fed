"""Room on a card for a run that needs more than is left there: engines shrink or sleep until it has trained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from align.errors import AlignError
from align.recipe.recipe import Recipe
from align.run_directory import RunDirectory
from common.gpu_cards import Card, read_cards
from serve.engine.cards import card_room
from serve.engine.cards.placement import SIZING
from serve.engine.engine import Engine
from serve.engine.pool import EnginePool
from serve.engine.spec import plain_arguments
from serve.errors import EngineFailed
from store.db.database import Store
from store.errors import StoreError
from trimtab.background import call_store
from trimtab.config.training_sections import TrainingSettings
from trimtab.runs.planning import make_plan, this_machine
from trimtab.runs.worker_device import UnknownDevice, choose_cards

log = logging.getLogger(__name__)
MARGIN = 1.5e9
"""CUDA's context and fragmentation, beside what the plan counts, bytes."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a run takes of each of its cards, bytes, and how many cards; 0 bytes where nothing has to be made room for."""

    bytes: float = 0.0
    processes: int = 1


@contextlib.asynccontextmanager
async def room_for(
    needed: Need,
    pool: EnginePool,
    settings: TrainingSettings,
    read: Callable[[], list[Card]] = read_cards,
) -> AsyncIterator[None]:
    """Have engines make room for what a run needs on its cards, until the block ends, in whatever way.

    Only as many engines as it takes, those with the largest parts first. A run for which there is still no room
    starts all the same: it halves its batch where it can.
    """
    made: list[Engine] = []
    try:
        if settings.make_room != "never" and needed.bytes > 0:
            await _make(needed, pool, settings, read, made)
        yield
    finally:
        if made:
            await asyncio.shield(_take_back(made, settings.make_room))


async def _make(
    needed: Need,
    pool: EnginePool,
    settings: TrainingSettings,
    read: Callable[[], list[Card]],
    made: list[Engine],
) -> None:
    chosen = await _chosen(settings, needed.processes, read)
    indices = {card.index for card in chosen}
    given = pool.cards.given()
    for engine in sorted(pool.engines(), key=lambda e: -_part(e, pool)):
        free = min(
            (card.free for card in await _chosen(settings, needed.processes, read)), default=needed.bytes
        )
        if free >= needed.bytes:
            return
        placement = given.get(engine.spec.name)
        if placement is None or not indices & {card.index for card in placement.cards}:
            continue
        if engine.state != "ready" or not can_make_room(engine, settings.make_room):
            continue
        log.info("engine %s makes room for a run (%s)", engine.spec.name, settings.make_room)
        made.append(engine)
        try:
            await (card_room.sleep if settings.make_room == "sleep" else card_room.shrink)(engine)
        except EngineFailed as error:
            log.warning("engine %s made no room: %s", engine.spec.name, error.message)


async def _chosen(settings: TrainingSettings, processes: int, read: Callable[[], list[Card]]) -> list[Card]:
    try:
        return choose_cards(settings.device, await asyncio.to_thread(read), processes)
    except UnknownDevice:
        return []  # the run fails and says so


def _part(engine: Engine, pool: EnginePool) -> int:
    placement = pool.cards.given().get(engine.spec.name)
    return placement.taken if placement else 0


def can_make_room(engine: Engine, how: str) -> bool:
    """Return whether an engine is ours to shrink or to put to sleep."""
    if engine.spec.url is not None or engine.spec.on_cpu:
        return False
    if how == "sleep":
        return engine.cards.can_sleep
    return not any(name in plain_arguments(engine.spec) for name in SIZING)


async def _take_back(engines: list[Engine], how: str) -> None:
    for engine in reversed(engines):
        try:
            await (card_room.wake if how == "sleep" else card_room.grow)(engine)
        except Exception:
            log.exception("engine %s did not take its memory back", engine.spec.name)


async def needed_by(db: Store, directory: RunDirectory, deployment: str, settings: TrainingSettings) -> Need:
    """Return what a run is planned to need; nothing on the processor, and where there is no plan."""
    if settings.make_room == "never":
        return Need()
    spec = directory.spec()
    try:
        recipe = Recipe.from_dict(spec.recipe)
        machine = await asyncio.to_thread(this_machine, settings.device, recipe.num_processes)
        if machine.device != "cuda":
            return Need()
        plan, *_ = await call_store(db, make_plan, recipe, deployment, Path(spec.base_model), machine)
    except (AlignError, StoreError) as error:
        log.warning("no room is made for the run, which has no plan: %s", error)
        return Need()
    return Need(plan.total + MARGIN, recipe.num_processes)
