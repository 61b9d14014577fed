"""What an adapter costs in time: how long a token takes with it and without.

Measured beside whatever else the engine does, so base and adapter take turns and the shortest times count, which other work
delays least. Where that leaves the figure open, it is unknown.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from serve.engine.engine import Engine

ROUNDS, MAX_ROUNDS = 3, 5
TOKENS = 8
LONGEST_S = 20.0
"""After how many seconds no further round begins."""


async def token_cost(engine: Engine, adapter: str, tokens: int = TOKENS) -> dict[str, float] | None:
    """Return what a token takes: `base_ms`, `adapter_ms` and their `ratio`; None when the machine is too busy to tell.

    An answer of `tokens` + 1 tokens less one of a single token. Raises `EngineFailed`.
    """
    taken: dict[tuple[str, int], list[float]] = {}
    began = time.perf_counter()
    for number in range(MAX_ROUNDS):
        for model in (engine.spec.base, adapter):
            for count in (1, tokens + 1):
                taken.setdefault((model, count), []).append(await _answer_seconds(engine, model, count))
        base, tuned = [
            seconds_a_token(taken[model, 1], taken[model, tokens + 1], tokens)
            for model in (engine.spec.base, adapter)
        ]
        if number + 1 >= ROUNDS and base and tuned:
            return {
                "base_ms": round(1000 * base, 3),
                "adapter_ms": round(1000 * tuned, 3),
                "ratio": round(tuned / base, 3),
            }
        if time.perf_counter() - began > LONGEST_S:
            break
    return None


def seconds_a_token(short: Sequence[float], long: Sequence[float], tokens: int) -> float | None:
    """Return the seconds per token from times of short and long answers, None when they scatter too widely to tell.

    The shortest of each count; the second shortest says how exact that is.
    """
    if min(len(short), len(long)) < 2:
        return None
    (one, next_one), (many, next_many) = sorted(short)[:2], sorted(long)[:2]
    difference = many - one
    if difference <= 0 or max(next_one - one, next_many - many) > difference / 2:
        return None
    return difference / tokens


async def _answer_seconds(engine: Engine, model: str, tokens: int) -> float:
    body = {"model": model, "prompt": "Hello", "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    began = time.perf_counter()
    with engine.in_flight.lease(None if model == engine.spec.base else model):
        await engine.request("POST", "/v1/completions", body, timeout=None)
    return time.perf_counter() - began
