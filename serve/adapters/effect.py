"""Does an adapter, as it is served, do what it did in training? Its effect on a probe text, compared in size and direction.

The effect is what the adapter adds to the log-probability of each token. Two correct computations of one model differ by
some noise, in bfloat16 by hundredths of a nat per token, so a part of an adapter can be missing without a larger distance
than that. The noise has no preferred direction: summed along the trained effect, or along that of one block alone, it goes
down with the root of the number of tokens, and what is missing does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from store.values import Probe

PART = re.compile(r"(block|module)_(?!base$)(\w+)")
MULTIPLE = re.compile(r"(adapter|nf4_adapter)_x([1-9][0-9]*)")
STANDARD_ERRORS = 4.5
"""How many standard errors the size of the served effect may be from the trained one's."""
MIN_RATIO_ERROR = 0.02
"""By how much it may differ, however exact the measurement is."""
PART_SCORE, PART_SHARE = 5.0, 0.4
"""From which score, and which share of its effect missing, a part counts as not applied."""
QUANTISED = 0.15
"""Differences of the base, nats per token, above which it is another one, as a quantised base: two types differ by less.

There an adapter's effect is another one too, parts are not compared, and honest adapters stay within the bounds below
(docs/benchmarks.md).
"""
COARSE_RATIO = 1.4
"""The size of the served effect may then be so many times the trained one's, or one of so many parts of it."""
COARSE_SHOWN = 1.5
"""An effect is then shown from so many times the difference of the base on."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What PEFT computed: `base` and `adapter`, and what each part alone adds to a token, computed exactly.

    A part is a block, or one projection in all blocks. `multiples` are the adapter's series at so many times its scale.
    """

    base: Sequence[float]
    adapter: Sequence[float]
    parts: Mapping[str, Any]
    multiples: Mapping[int, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effect:
    """How the served effect compares with the trained one.

    `size` is the mean absolute trained effect, nats per token; `ratio` the served effect's size as a share of it (None
    when there is none), `ratio_error` its standard error by the noise of the base, `ratio_score` how many standard
    errors it is from 1 by the values themselves; `missing_part` the block or projection whose part is not served, in words;
    `noise` the mean absolute difference of the bases.
    """

    size: float
    ratio: float | None
    ratio_error: float | None
    ratio_score: float
    missing_part: str | None
    noise: float

    @property
    def is_shown(self) -> bool:
        """Whether the measurement tells the adapter from the plain base at all."""
        if self.is_quantised and self.size < COARSE_SHOWN * self.noise:
            return False
        return self.ratio_error is not None and 2 * STANDARD_ERRORS * self.ratio_error < 1

    @property
    def is_quantised(self) -> bool:
        """Whether the served base is another one than the trained one."""
        return self.noise > QUANTISED

    @property
    def ratio_is_off(self) -> bool:
        """Whether more or less of the effect is served than noise, and on a quantised base the other base, explain."""
        if self.ratio is None or not self.is_shown or abs(self.ratio_score) <= STANDARD_ERRORS:
            return False
        if self.is_quantised:
            return is_coarsely_off(self.ratio)
        return abs(self.ratio - 1) > MIN_RATIO_ERROR


def is_coarsely_off(ratio: float) -> bool:
    """Return whether the size of an effect differs by more than it does for honest adapters on a quantised base."""
    return not 1 / COARSE_RATIO <= ratio <= COARSE_RATIO


def references(probe: Probe) -> list[Reference]:
    """Return the pairs of series that a probe holds: over the base in full precision, and over the NF4 base."""
    found = []
    for prefix in ("", "nf4_"):
        base, adapter = probe.logprobs.get(f"{prefix}base"), probe.logprobs.get(f"{prefix}adapter")
        if base and adapter:
            parts = {} if prefix else _part_effects(probe)
            found.append(Reference(base, adapter, parts, _multiples(probe, f"{prefix}adapter")))
    return found


def _multiples(probe: Probe, name: str) -> dict[int, Sequence[float]]:
    matches = ((MULTIPLE.fullmatch(key), series) for key, series in probe.logprobs.items())
    return {int(match[2]): series for match, series in matches if match and match[1] == name}


def _part_effects(probe: Probe) -> dict[str, Any]:
    exact = probe.logprobs.get("block_base")
    if not exact:
        return {}
    matches = ((PART.fullmatch(name), series) for name, series in probe.logprobs.items())
    return {_in_words(*match.groups()): np.subtract(series, exact) for match, series in matches if match}


def _in_words(kind: str, name: str) -> str:
    return f"block {name}" if kind == "block" else f"{name} of all blocks"


def compare_effects(served_base: Sequence[float], served: Sequence[float], trained: Reference) -> Effect:
    """Compare what the adapter adds where it is served with what it added in training."""
    x = np.subtract(trained.adapter, trained.base)
    y = np.subtract(served, served_base)
    size = float(np.abs(x).mean())
    missing, noise = np.subtract(trained.adapter, served), np.subtract(served_base, trained.base)
    mean_noise = float(np.abs(noise).mean())
    if size == 0:
        return Effect(0.0, None, None, 0.0, None, mean_noise)
    noise_power, power = float(noise @ noise), float(x @ x)
    error = None
    if power > noise_power:  # the trained effect holds as much noise
        error = (2 * noise_power / len(x) / (power - noise_power)) ** 0.5
    effect = Effect(size, slope(x, y), error, _score(x, y), None, mean_noise)
    return (
        replace(effect, missing_part=_missing_part(missing, trained))
        if effect.is_shown and not effect.is_quantised
        else effect
    )


def slope(x: Any, y: Any) -> float:
    """Return the slope of y on x where both carry the same noise (Deming's regression)."""
    xx, yy, xy = float(x @ x), float(y @ y), float(x @ y)
    return 0.0 if xy <= 0 else (yy - xx + ((yy - xx) ** 2 + 4 * xy**2) ** 0.5) / (2 * xy)


def _score(x: Any, y: Any) -> float:
    """Return how many standard errors the slope is from 1, where difference and sum do not go together."""
    products = _bounded(y - x) * _bounded(y + x)
    return float(products.sum() / ((products**2).sum() ** 0.5 or 1.0))


def _missing_part(missing: Any, trained: Reference) -> str | None:
    """Return the part along whose effect most is missing, None when no part is."""
    worst, found = PART_SCORE, None
    for name, own in trained.parts.items():
        if not own.any() or float(own @ missing) < PART_SHARE * float(own @ own):
            continue
        products = _bounded(own) * _bounded(missing)
        score = float(products.sum() / ((products**2).sum() ** 0.5 or 1.0))
        if score > worst:
            worst, found = score, name
    return found


def _bounded(values: Any) -> Any:
    """Return the values with outliers, which would hide everything else, cut to five medians of the size."""
    most = 5 * float(np.median(np.abs(values)))
    return np.clip(values, -most, most)
