"""Which card an engine runs on and how much of it, decided when it starts by what is free then.

An engine that starts holds nothing yet, so what others were given and do not hold so far counts as taken.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.gpu_cards import VISIBLE, Card, read_cards
from serve.engine.cards.gpu_memory import (
    CONTEXT,
    GB,
    MIN_SPARE,
    SPARE_SHARE,
    GpuNeed,
    ModelSize,
    default_tokens,
    need,
    parse_memory,
    read_model_size,
)
from serve.engine.spec import EngineSpec, plain_arguments
from serve.errors import EngineFailed

UNKNOWN_SHARE = 0.9
"""Share of what is free that an engine takes whose model's size is not known, such as a hub id."""
SIZING = ("gpu-memory-utilization", "kv-cache-memory-bytes", "kv-cache-memory")
"""Arguments of an engine that decide on its memory themselves."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The cards of one engine, `taken` bytes on each of them, and the arguments and environment that say so to vLLM."""

    cards: tuple[Card, ...]
    taken: int
    arguments: dict[str, Any]
    environment: dict[str, str]
    need: GpuNeed | None = None

    @property
    def device(self) -> str:
        """The kind of card."""
        return self.cards[0].name if self.cards else "cuda"


class Cards:
    """The cards of this machine and what the engines of this platform were given of them."""

    def __init__(self, read: Callable[[], list[Card]] = read_cards) -> None:
        self._read = read
        self.can_sleep = (
            False  # whether engines are started so that they can give their memory up for a while
        )
        self._given: dict[str, Placement] = {}
        self._starting: set[str] = set()
        self._lock = asyncio.Lock()

    async def place(self, spec: EngineSpec) -> Placement:
        """Choose the cards of an engine that starts, and count what it will take. Raises `EngineFailed` in words."""
        async with self._lock:
            self.release(spec.name)
            cards = await asyncio.to_thread(self._read)
            model = await asyncio.to_thread(read_model_size, spec.model_dir, plain_arguments(spec))
            placement = choose(spec, model, [self._without_promised(card) for card in cards])
            self._given[spec.name] = placement
            self._starting.add(spec.name)
            return placement

    def settle(self, engine: str) -> None:
        """Count what the engine holds from now on, since it serves, and no longer what it was given."""
        self._starting.discard(engine)

    def release(self, engine: str) -> None:
        """Take back what an engine was given that ended."""
        self._given.pop(engine, None)
        self._starting.discard(engine)

    def given(self) -> Mapping[str, Placement]:
        """Return what each running engine was given."""
        return dict(self._given)

    async def read(self) -> list[Card]:
        """Return the cards as they are now."""
        return await asyncio.to_thread(self._read)

    def _without_promised(self, card: Card) -> Card:
        promised = 0
        for name in self._starting:
            placement = self._given[name]
            before = next((c for c in placement.cards if c.index == card.index), None)
            if before is not None:
                # Since it was placed it may have begun to take its part.
                promised += max(0, placement.taken - max(0, before.free - card.free))
        free = max(0, card.free - promised)
        return Card(card.index, card.uuid, card.name, card.driver, card.total, free, card.held)


def choose(spec: EngineSpec, model: ModelSize | None, cards: Sequence[Card]) -> Placement:
    """Return where an engine goes: the cards with most room. Raises `EngineFailed` where it fits on none."""
    given = plain_arguments(spec)
    number = _cards_needed(given)
    if VISIBLE in spec.env:  # the operator chose
        names = [name.strip() for name in spec.env[VISIBLE].split(",")]
        cards = [card for card in cards if str(card.index) in names or card.uuid in names]
    if not cards:  # hidden from the driver's tool, such as a part of a card (MIG)
        return Placement((), 0, _unsized(spec), {})
    if len(cards) < number:
        raise EngineFailed(
            spec.name,
            f"{number} cards are asked for (args.tensor-parallel-size, args.pipeline-parallel-size) and {len(cards)} "
            "can be used",
        )
    chosen = tuple(sorted(cards, key=lambda card: card.free, reverse=True)[:number])
    taken, arguments, size = _size(spec, model, given, chosen)
    environment = {} if VISIBLE in spec.env else {VISIBLE: ",".join(str(card.index) for card in chosen)}
    return Placement(chosen, taken, arguments, environment, size)


def _cards_needed(given: Mapping[str, Any]) -> int:
    number = 1
    for name in ("tensor-parallel-size", "tp", "pipeline-parallel-size", "pp"):
        value = str(given.get(name, 1))
        number *= int(value) if value.isdecimal() and int(value) else 1
    return number


def _unsized(spec: EngineSpec) -> dict[str, Any]:
    """Return the arguments where no card can be measured: a share that the settings state, else vLLM's own."""
    if spec.gpu_memory is not None and (share := parse_memory(spec.gpu_memory)) <= 1:
        return {"gpu-memory-utilization": share}
    return {}


def _size(
    spec: EngineSpec, model: ModelSize | None, given: Mapping[str, Any], cards: Sequence[Card]
) -> tuple[int, dict[str, Any], GpuNeed | None]:
    """Return the bytes on each card, vLLM's arguments for them, and the parts where they are known."""
    free, total = min(card.free for card in cards), min(card.total for card in cards)
    room = max(0, free - math.ceil(max(SPARE_SHARE * total, MIN_SPARE)))
    if any(name in given for name in SIZING):
        share = given.get("gpu-memory-utilization")
        taken = int(float(share) * total) if share is not None else room
        return taken, {}, None
    if spec.gpu_memory is not None:
        return _size_as_set(spec, model, cards, free, total)
    if model is None:
        taken = int(UNKNOWN_SHARE * room)
        return taken, {"gpu-memory-utilization": _share(taken, total)}, None
    tokens = default_tokens(model, spec.kv_cache_tokens, room, spec.max_loras, spec.max_lora_rank, len(cards))
    size = need(model, tokens, spec.max_loras, spec.max_lora_rank, len(cards))
    if size.total > room:
        if size.weights + size.kv + CONTEXT > room:
            raise EngineFailed(spec.name, _does_not_fit(size, cards, room))
        # What vLLM runs with is an estimate, and vLLM measures it where no cache is stated.
        return room, {"gpu-memory-utilization": _share(room, total)} | _length(model, 0, given), size
    arguments = {"gpu-memory-utilization": _share(size.total, total), "kv-cache-memory-bytes": size.kv}
    return size.total, arguments | _length(model, tokens, given), size


def _size_as_set(
    spec: EngineSpec, model: ModelSize | None, cards: Sequence[Card], free: int, total: int
) -> tuple[int, dict[str, Any], GpuNeed | None]:
    """Return what `gpu_memory` says; vLLM gives the KV cache what the rest leaves of it."""
    assert spec.gpu_memory is not None
    set_to = parse_memory(spec.gpu_memory)
    taken = int(set_to * total) if set_to <= 1 else int(set_to)
    if taken > free:
        raise EngineFailed(
            spec.name,
            f"engines.{spec.name}.gpu_memory is {taken / GB:.1f} GB and {_name(cards)} has {free / GB:.1f} GB free; "
            "lower it, or end what holds the card",
        )
    arguments: dict[str, Any] = {"gpu-memory-utilization": _share(taken, total)}
    if model is None:
        return taken, arguments, None
    least = need(model, 0, spec.max_loras, spec.max_lora_rank, len(cards))
    tokens = int(max(0, taken - least.total) * len(cards) // max(1, model.kv_per_token))
    size = need(model, tokens, spec.max_loras, spec.max_lora_rank, len(cards))
    return taken, arguments | _length(model, tokens, plain_arguments(spec)), size


def _length(model: ModelSize, tokens: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the argument that has vLLM shorten the context to what the cache holds, where the whole does not fit."""
    return {"max-model-len": "auto"} if tokens < model.max_length and "max-model-len" not in given else {}


def _share(taken: int, total: int) -> float:
    return min(1.0, math.ceil(taken / total * 1000) / 1000)


def _name(cards: Sequence[Card]) -> str:
    return " and ".join(f"card {card.index} ({card.name})" for card in cards)


def _does_not_fit(size: GpuNeed, cards: Sequence[Card], room: int) -> str:
    return (
        f"it needs {size.explain()}; {_name(cards)} has {room / GB:.1f} GB to give. End what holds the card, choose a "
        "smaller or quantised model, or lower max_loras or max_lora_rank"
    )
