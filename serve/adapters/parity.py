"""Is what an engine serves what was trained? Log-probabilities of a probe text, served against computed by PEFT.

Knows the engine's HTTP API and numbers; knows no adapter files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from serve.engine.engine import Engine
from serve.errors import EngineFailed
from store.values import Probe


@dataclass(frozen=True, slots=True)
class Parity:
    """How far served log-probabilities (natural logarithm, one a token) are from those that PEFT computed.

    `mean_abs` and `max_abs` compare the served adapter with PEFT's on the same base; `ok` says that the mean
    is within `tolerance`. `from_base` is the mean distance of the served adapter from the plain base, so that
    an adapter which changes nothing is seen; `nf4_drift` the mean distance between PEFT's adapter on the
    served base and on the NF4 base that a QLoRA run trained it on, None for others. `cost` is what the adapter
    costs in time, see `token_cost`.
    """

    mean_abs: float
    max_abs: float
    tolerance: float
    ok: bool
    from_base: float | None = None
    nf4_drift: float | None = None
    cost: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


async def token_cost(engine: Engine, adapter: str, tokens: int = 8) -> dict[str, float]:
    """Return what a token takes with the adapter and without: `base_ms`, `adapter_ms` and their `ratio`.

    An answer of `tokens` + 1 tokens less one of a single token, beside whatever else the engine is doing. Raises
    `EngineFailed`.
    """
    seconds = {}
    for key, model in (("base_ms", engine.spec.base), ("adapter_ms", adapter)):
        one, many = [await _answer_seconds(engine, model, count) for count in (1, tokens + 1)]
        seconds[key] = max(many - one, 1e-6) / tokens
    cost = {key: round(1000 * value, 3) for key, value in seconds.items()}
    return {**cost, "ratio": round(seconds["adapter_ms"] / seconds["base_ms"], 3)}


async def _answer_seconds(engine: Engine, model: str, tokens: int) -> float:
    body = {"model": model, "prompt": "Hello", "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    began = time.perf_counter()
    with engine.in_flight.lease(None if model == engine.spec.base else model):
        await engine.request("POST", "/v1/completions", body, timeout=None)
    return time.perf_counter() - began


async def measure(engine: Engine, model: str, token_ids: Sequence[int]) -> list[float]:
    """Return the T - 1 log-probabilities that `model` gives tokens 1 to T - 1 of a text of T token ids.

    Raises `EngineFailed` when the engine refuses or answers with something that is not finite.
    """
    body = {
        "model": model,
        "prompt": list(token_ids),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }
    with engine.in_flight.lease(None if model == engine.spec.base else model):
        answer = await engine.request("POST", "/v1/completions", body, timeout=None)
    rows = answer["choices"][0]["prompt_logprobs"]
    values = [float(row[str(token)]["logprob"]) for row, token in zip(rows[1:], token_ids[1:], strict=True)]
    if not all(map(math.isfinite, values)):
        raise EngineFailed(engine.spec.name, f"{model} gives log-probabilities that are not finite")
    return values


def compare(served: Sequence[float], probe: Probe, tolerance: float, adapter: bool = True) -> Parity:
    """Compare what was served with the probe's `adapter` series (or `base`, for the plain base model).

    Raises ValueError when the probe lacks the series or its length differs.
    """
    own = probe.logprobs.get("adapter" if adapter else "base")
    if own is None or len(own) != len(served):
        raise ValueError(f"the probe has no series of {len(served)} values to compare with")
    distances = [abs(a - b) for a, b in zip(served, own, strict=True)]
    mean = sum(distances) / max(1, len(distances))
    base, nf4 = probe.logprobs.get("base"), probe.logprobs.get("nf4_adapter")
    return Parity(
        mean_abs=mean,
        max_abs=max(distances, default=0.0),
        tolerance=tolerance,
        ok=mean <= tolerance,
        from_base=mean_distance(served, base) if base and adapter else None,
        nf4_drift=mean_distance(own, nf4) if nf4 and adapter else None,
    )


def mean_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the mean absolute difference of two series of one length."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / max(1, len(one))
