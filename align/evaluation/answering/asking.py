"""Asking the releases side by side: requests in turn, progress counted, refusals kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from align.evaluation.answering.chat_api import ChatApi, RowRefused

OnProgress = Callable[[dict[str, Any]], Awaitable[None] | None]
T = TypeVar("T")
Ask = Callable[[str, str], Awaitable[T]]
"""Asks a release, by its side and its model name."""


@dataclass
class Asking:
    """The releases of a suite, by side, and how far it is."""

    api: ChatApi
    models: dict[str, str]
    seed: str
    on_progress: OnProgress | None = None
    prompts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The prompts of generated answers, by item."""
    generating: tuple[str, ...] = ("release", "against")
    """The sides that generate answers; scored rows and texts are of every side."""
    beside: tuple[tuple[str, str], ...] = (("release", "against"),)
    """Sides whose divergence on texts is measured, each with the side that it is measured from."""
    total: int = 0
    expected_s: float = 0.0
    done: int = 0
    began: float = field(default_factory=time.monotonic)

    def sides(self, *wanted: str) -> dict[str, str]:
        """Return those of the sides that are there."""
        return {side: self.models[side] for side in wanted if side in self.models}

    async def progress(self, done: int = 0) -> None:
        """Count finished requests and say how far the suite is."""
        self.done += done
        if self.on_progress is None:
            return
        took = time.monotonic() - self.began
        left = self.expected_s if not self.done else took / self.done * (self.total - self.done)
        said = self.on_progress(
            {"done": self.done, "total": self.total, "seconds_left": round(max(0.0, left), 1)}
        )
        if said is not None:
            await said

    async def together(
        self, asks: Iterable[tuple[str, Ask[T]]], *wanted: str
    ) -> list[tuple[str, str, T | RowRefused]]:
        """Ask every release each of these, in turn; return what was asked, the side, and the outcome.

        Requests of the sides alternate, so that a busy moment or a cold cache meets both alike.
        """

        async def one(side: str, ask: Ask[T]) -> T | RowRefused:
            outcome: T | RowRefused
            try:
                outcome = await ask(side, self.models[side])
            except RowRefused as refusal:
                outcome = refusal
            return outcome

        sides = self.sides(*wanted)
        try:
            async with asyncio.TaskGroup() as group:  # the first failure cancels the rest
                tasks = [
                    (name, side, group.create_task(one(side, ask))) for name, ask in asks for side in sides
                ]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [(name, side, task.result()) for name, side, task in tasks]


def complete(
    found: Sequence[tuple[str, str, T | RowRefused]], sides: int
) -> tuple[dict[str, dict[str, T]], dict[str, str]]:
    """Split outcomes into what every side answered, by name and side, and why the others were refused."""
    kept: dict[str, dict[str, T]] = {}
    refused: dict[str, str] = {}
    for name, side, outcome in found:
        if isinstance(outcome, RowRefused):
            refused.setdefault(name, str(outcome))
        else:
            kept.setdefault(name, {})[side] = outcome
    return {name: one for name, one in kept.items() if name not in refused and len(one) == sides}, refused
