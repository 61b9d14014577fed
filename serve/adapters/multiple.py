"""Compare an adapter at a multiple of its scale, where at its own it does less than the served base differs by.

A quantised base differs from the trained one by more than a small adapter does, so that neither distance nor size show
whether the adapter is applied. At a multiple of its scale its effect stands out. There it is another effect than in
training, since the base is another one: the bounds are those within which honest adapters stay (docs/benchmarks.md), and
show coarse faults alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.sequences import mean_distance
from serve.adapters.effect import COARSE_RATIO, COARSE_SHOWN, is_coarsely_off, slope
from serve.adapters.parity import Parity, nearest
from store.values import Probe

WANTED, LEAST = 3.0, COARSE_SHOWN
"""The effect that a multiple is to have, and the smallest that shows anything, as a share of what the base differs by."""
BASE_SHARE = 1.2
"""So many times as far as from the trained adapter must the served one be from the base."""
NOISE_SHARE, EFFECT_SHARE = 1.25, 0.35
"""Served and trained adapter may differ by such shares of what the base differs by and of the effect, together."""
CANNOT = "it cannot show a missing block, or a scale that is off by a tenth"


@dataclass(frozen=True, slots=True)
class Multiple:
    """What PEFT computed with `factor` times the adapter's scale: its series, that of the base, and the served base's.

    `half` and `double` are the series at half and twice that scale, None where the probe lacks them.
    """

    factor: int
    adapter: Sequence[float]
    base: Sequence[float]
    served_base: Sequence[float]
    half: Sequence[float] | None = None
    double: Sequence[float] | None = None

    @property
    def noise(self) -> float:
        """The mean distance of the two bases."""
        return mean_distance(self.served_base, self.base)

    @property
    def effect(self) -> float:
        """What the scaled adapter adds, mean absolute."""
        return mean_distance(self.adapter, self.base)


def choose_multiple(parity: Parity, served_base: Sequence[float], probe: Probe) -> Multiple | None:
    """Return at which multiple to compare an adapter that its own scale does not show; None where there is no need or none.

    The smallest whose effect stands out well, else the smallest whose effect stands out at all: a larger one would change
    what the model says altogether, so that half and twice as much look alike.
    """
    if parity.is_shown or not parity.ok:
        return None
    trained = nearest(probe, served_base)
    scales = {1: trained.adapter, **trained.multiples}
    known = [
        Multiple(n, scales[n], trained.base, served_base, scales.get(n // 2), scales.get(2 * n))
        for n in sorted(trained.multiples)
    ]
    for share in (WANTED, LEAST):
        for multiple in known:
            if multiple.effect >= share * multiple.noise:
                return multiple
    return None


def judge_multiple(parity: Parity, multiple: Multiple, served: Sequence[float]) -> Parity:
    """Add to the verdict at the adapter's own scale what `served`, the series with the scaled copy, shows."""
    x, y = np.subtract(multiple.adapter, multiple.base), np.subtract(served, multiple.served_base)
    distance = mean_distance(served, multiple.adapter)
    tolerance = NOISE_SHARE * multiple.noise + EFFECT_SHARE * multiple.effect
    found = {
        "factor": float(multiple.factor),
        "mean_abs": distance,
        "tolerance": tolerance,
        "effect": multiple.effect,
        "effect_ratio": slope(x, y),
        "from_base": mean_distance(served, multiple.base),
    }
    for name, other in (("from_half", multiple.half), ("from_double", multiple.double)):
        if other is not None:
            found[name] = mean_distance(served, other)
    why = _fault(found)
    note = None if why else _note(multiple.factor)
    return replace(parity, ok=why is None, why=why, note=note, at_multiple=found)


def _fault(found: dict[str, float]) -> str | None:
    scale, ratio = f"{found['factor']:g} times its scale", found["effect_ratio"]
    if is_coarsely_off(ratio):
        return (
            f"compared at {scale}, the served adapter does {ratio:.3g} times what it did in training; accepted: "
            f"{1 / COARSE_RATIO:.2f} to {COARSE_RATIO:g} (training.parity_tolerance)"
        )
    if found["from_base"] < BASE_SHARE * found["mean_abs"]:
        return (
            f"compared at {scale}, served log-probabilities differ by {found['mean_abs']:.4g} from the trained adapter's "
            f"and by {found['from_base']:.4g} from the base's; accepted: {BASE_SHARE:g} times as far from the base "
            "(training.parity_tolerance)"
        )
    for name, words in (("from_half", "half"), ("from_double", "twice")):
        if found.get(name, math.inf) < found["mean_abs"]:
            return (
                f"compared at {scale}, the served adapter is nearer to what {words} that scale does in training "
                f"({found[name]:.4g}) than to what it does itself ({found['mean_abs']:.4g}) (training.parity_tolerance)"
            )
    if not found["mean_abs"] <= found["tolerance"]:
        return (
            f"compared at {scale}, served and trained log-probabilities differ by {found['mean_abs']:.4g} on average; "
            f"accepted: up to {found['tolerance']:.4g}, from what the base itself differs by and the effect "
            "(training.parity_tolerance)"
        )
    return None


def _note(factor: int) -> str:
    return (
        "the adapter does less than the base itself differs by; compared at "
        f"{factor} times its scale, the probe shows that it is applied, and at about its scale; {CANNOT}"
    )


def not_compared(parity: Parity, reason: str) -> Parity:
    """Say in the note why a scaled copy was not compared."""
    return replace(
        parity, note=f"{parity.note} (at a multiple of its scale it could not be compared: {reason})"
    )
