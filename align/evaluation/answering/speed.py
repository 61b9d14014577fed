"""Time to first token and tokens per second of several releases, interleaved and one request at a time.

A busy machine meets all of them alike, and none is timed while another one of them answers.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from align.evaluation import neutral
from align.evaluation.answering.asking import Asking
from align.evaluation.items import NEUTRAL, Item
from align.stats import difference_interval, mean_interval

PROMPTS = 8
MAX_TOKENS = 32
FIGURES = ("first_token_s", "tokens_per_second", "prompt_tokens")


async def measure_speed(asking: Asking) -> list[Item]:
    """Time streamed answers to neutral prompts; an item's `detail` has first token, tokens per second, prompt tokens.

    Each side answers one prompt before, which is not counted: the first request of a release may load its adapter. The
    order of the sides changes from prompt to prompt.
    """
    sides = list(asking.sides(*asking.generating).items())
    entries = neutral.draw("general", PROMPTS + 1, asking.seed)
    items = []
    for place, entry in enumerate(entries):
        turn = place % len(sides)
        for side, model in [*sides[turn:], *sides[:turn]]:
            messages = [{"role": "user", "content": entry.text}]
            body = {"model": model, "messages": messages, "max_tokens": MAX_TOKENS, "seed": 1}
            answer, seconds, first = await asking.api.stream(body)
            await asking.progress(1)
            if place == 0:
                continue
            usage = answer.get("usage") or {}
            tokens, first = int(usage.get("completion_tokens") or 0), seconds if first is None else first
            speed = (tokens - 1) / (seconds - first) if tokens > 1 and seconds > first else None
            detail = {
                "first_token_s": first,
                "tokens_per_second": speed,
                "prompt_tokens": int(usage.get("prompt_tokens") or 0),
            }
            name = NEUTRAL + entry.id
            items.append(Item("speed", name, name, side, name, tokens=tokens, seconds=seconds, detail=detail))
    return items


def requests(sides: int) -> int:
    """Return how many requests `measure_speed` makes."""
    return sides * (PROMPTS + 1)


def speed_of(items: Sequence[Item], side: str, beside: str | None = None) -> dict[str, dict[str, Any]]:
    """Return each figure's median, mean with interval, and paired difference from `beside`, by name."""
    found: dict[str, dict[str, Any]] = {}
    by_side = {name: {i.item: i for i in items if i.side == name} for name in {side, beside or side}}
    for figure in FIGURES:
        own = {name: item.detail[figure] for name, item in by_side[side].items()}
        own = {name: float(value) for name, value in own.items() if value is not None}
        if not own:
            continue
        found[figure] = {"median": statistics.median(own.values()), "mean": mean_interval(own.values())}
        if beside is not None:
            other = {name: item.detail[figure] for name, item in by_side[beside].items()}
            both = [name for name in own if other.get(name) is not None]
            if both:
                pairs = [own[name] for name in both], [float(other[name]) for name in both]
                found[figure]["difference"] = difference_interval(*pairs)
    return found
