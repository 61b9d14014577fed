"""Is what an engine serves what was trained? Log-probabilities of a probe text, served against computed by PEFT.

Uses the engine's HTTP API and numbers; reads no adapter files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from common.sequences import mean_distance
from serve.adapters.effect import (
    COARSE_RATIO,
    STANDARD_ERRORS,
    Effect,
    Reference,
    compare_effects,
    references,
)
from serve.engine.engine import Engine
from serve.errors import EngineFailed
from store.values import Probe

Tolerance = float | Literal["auto"]
FIXED_TOLERANCE = 1e-2
"""For a probe that does not hold the base's series."""
NOISE_SHARE, LEAST, EFFECT_SHARE = 2.0, 1e-4, 1e-3
"""The automatic tolerance: so many times the base's own disagreement, plus so much, plus such a share of the effect."""
COARSE = 0.2
"""From which smallest difference of the effect's size on that the probe can show a note says so."""
NOT_FINITE = "log-probabilities that are not finite"


@dataclass(frozen=True, slots=True)
class Parity:
    """How far served log-probabilities (natural logarithm, one per token) are from those that PEFT computed.

    `mean_abs` and `max_abs` compare the served adapter with PEFT's on the same base; `ok` says that the mean
    is within `tolerance`, and `why` what is wrong otherwise. `from_base` is the mean distance of the served adapter
    from the plain base, so that an adapter which changes nothing is seen; `nf4_drift` the mean distance between PEFT's
    adapter on the served base and on the NF4 base that a QLoRA run trained it on (where the probe lacks the former, between
    the served adapter and the latter), None for others. `base_mean_abs`
    compares the served base with PEFT's: what two correct computations differ by. `effect` is what the adapter adds in
    training (mean, absolute), `effect_ratio` the served effect as a share of it, `effect_ratio_error` its standard error.
    `is_shown` says whether the adapter's effect stands out from what the base differs by; where it does not, `at_multiple`
    may hold what was compared at a multiple of its scale, see `serve.adapters.multiple`.
    `cost` is what the adapter costs in time, see `serve.adapters.token_cost`; None when unknown. `note` is for people.
    """

    mean_abs: float
    max_abs: float
    tolerance: float
    ok: bool
    from_base: float | None = None
    nf4_drift: float | None = None
    cost: dict[str, float] | None = None
    base_mean_abs: float | None = None
    effect: float | None = None
    effect_ratio: float | None = None
    effect_ratio_error: float | None = None
    why: str | None = None
    note: str | None = None
    is_shown: bool = True
    at_multiple: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


async def measure(engine: Engine, model: str, probe: Probe) -> list[float]:
    """Return the log-probabilities that `model` gives the tokens of a probe text, window by window as its series hold them.

    Raises `EngineFailed` when the engine refuses or answers with something that is not finite.
    """
    found: list[float] = []
    with engine.in_flight.lease(None if model == engine.spec.base else model):
        for token_ids in probe.windows:
            found += await _measure_window(engine, model, token_ids)
    if not all(map(math.isfinite, found)):
        raise EngineFailed(engine.spec.name, f"{model} gives {NOT_FINITE}")
    return found


async def _measure_window(engine: Engine, model: str, token_ids: Sequence[int]) -> list[float]:
    body = {
        "model": model,
        "prompt": list(token_ids),
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }
    answer = await engine.request("POST", "/v1/completions", body, timeout=None)
    rows = answer["choices"][0]["prompt_logprobs"]
    return [float(row[str(token)]["logprob"]) for row, token in zip(rows[1:], token_ids[1:], strict=True)]


def compare(served: Sequence[float], probe: Probe, tolerance: float, adapter: bool = True) -> Parity:
    """Compare what was served with the probe's `adapter` series (or `base`, for the plain base model).

    Of a QLoRA run whose base does not fit in full precision the probe holds the series over the NF4 base alone, and those
    are compared with. Raises ValueError when the probe lacks the series or its length differs.
    """
    name = "adapter" if adapter else "base"
    own = probe.logprobs.get(name) or probe.logprobs.get(f"nf4_{name}")
    if own is None or len(own) != len(served):
        raise ValueError(f"the probe has no series of {len(served)} values to compare with")
    distances = [abs(a - b) for a, b in zip(served, own, strict=True)]
    mean = sum(distances) / max(1, len(distances))
    base = probe.logprobs.get("base") or probe.logprobs.get("nf4_base")
    return Parity(
        mean_abs=mean,
        max_abs=max(distances, default=0.0),
        tolerance=tolerance,
        ok=mean <= tolerance,
        from_base=mean_distance(served, base) if base and adapter else None,
        nf4_drift=_nf4_drift(served, probe) if adapter else None,
        why=None if mean <= tolerance else _too_far(mean, max(distances), f"{tolerance:g}"),
    )


def _nf4_drift(served: Sequence[float], probe: Probe) -> float | None:
    """Return how far the adapter is from what was trained on the NF4 base; None when it was not trained on one."""
    nf4, full = probe.logprobs.get("nf4_adapter"), probe.logprobs.get("adapter")
    return mean_distance(full or served, nf4) if nf4 else None


def _too_far(mean: float, most: float, accepted: str) -> str:
    return (
        f"served and trained log-probabilities of the probe differ by {mean:.4g} on average (largest {most:.4g}); "
        f"accepted: up to {accepted} (training.parity_tolerance)"
    )


def judge(
    served: Sequence[float], served_base: Sequence[float], probe: Probe, is_zero: bool = False
) -> Parity:
    """Compare a served adapter with what was trained, with the tolerance that the base's own disagreement gives.

    Of the bases that a QLoRA probe holds, full precision and NF4, the one counts that the served base is nearest to.
    `is_zero` says that the adapter is to change nothing. Raises ValueError when the probe lacks the series.
    """
    trained = nearest(probe, served_base)
    noise = mean_distance(served_base, trained.base)
    effect = compare_effects(served_base, served, trained)
    tolerance = NOISE_SHARE * noise + LEAST + EFFECT_SHARE * effect.size
    distances = [abs(a - b) for a, b in zip(served, trained.adapter, strict=True)]
    parity = Parity(
        mean_abs=sum(distances) / max(1, len(distances)),
        max_abs=max(distances, default=0.0),
        tolerance=tolerance,
        ok=True,
        from_base=mean_distance(served, served_base),
        nf4_drift=_nf4_drift(served, probe),
        base_mean_abs=noise,
        effect=effect.size,
        effect_ratio=effect.ratio,
        effect_ratio_error=effect.ratio_error,
        is_shown=effect.is_shown or is_zero,
    )
    why = _fault(parity, effect, is_zero) or _doubled(parity, effect, served, trained)
    return replace(parity, ok=why is None, why=why, note=_note(effect, is_zero))


def nearest(probe: Probe, served_base: Sequence[float]) -> Reference:
    """Return the series over the base that the served one is nearest to; raises ValueError when the probe lacks them."""
    pairs = references(probe)
    if not pairs or any(len(pair.base) != len(served_base) for pair in pairs):
        raise ValueError(f"the probe has no series of {len(served_base)} values to compare with")
    return min(pairs, key=lambda pair: mean_distance(served_base, pair.base))


def _fault(parity: Parity, effect: Effect, is_zero: bool) -> str | None:
    if not parity.mean_abs <= parity.tolerance:
        accepted = f"{parity.tolerance:.4g}, since the base itself differs by {parity.base_mean_abs:.4g}"
        return _too_far(parity.mean_abs, parity.max_abs, accepted)
    if is_zero:
        return None
    if effect.ratio_is_off:
        accepted = f"1, within {STANDARD_ERRORS:g} standard errors"
        if effect.is_quantised:
            accepted = f"{1 / COARSE_RATIO:.2f} to {COARSE_RATIO:g}, since the base itself differs by {effect.noise:.2g}"
        return (
            f"served, the adapter does {effect.ratio:.3g} times what it did in training (standard error "
            f"{effect.ratio_error:.2g}); accepted: {accepted} (training.parity_tolerance)"
        )
    if effect.missing_part is not None:
        return (
            f"served, the adapter's part in {effect.missing_part} does not do what it did in training "
            "(training.parity_tolerance)"
        )
    return None


def _doubled(parity: Parity, effect: Effect, served: Sequence[float], trained: Reference) -> str | None:
    """Return that twice the scale is nearer on a quantised base, where the size of the effect may say little of it."""
    double = trained.multiples.get(2)
    if not double or not effect.is_quantised or not effect.is_shown:
        return None
    distance = mean_distance(served, double)
    if distance >= parity.mean_abs:
        return None
    return (
        f"the served adapter is nearer to what twice its scale does in training ({distance:.4g}) than to what it does "
        f"itself ({parity.mean_abs:.4g}) (training.parity_tolerance)"
    )


def _note(effect: Effect, is_zero: bool) -> str | None:
    if is_zero:
        return "the adapter is zero: it changes nothing"
    if not effect.is_shown:
        return "the adapter does less than the base itself differs by, so that the probe cannot show whether it is applied"
    if effect.is_quantised:
        return (
            f"the base itself differs by {effect.noise:.2g}, as a quantised one does: the probe shows that the adapter is "
            "applied, and about its size, but not a missing part"
        )
    least = STANDARD_ERRORS * (effect.ratio_error or 0.0)
    if least > COARSE:
        return (
            "the effect is small: the probe shows that the adapter is applied, but no difference in size "
            f"below {least:.0%}"
        )
    return None
