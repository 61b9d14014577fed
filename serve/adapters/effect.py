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
MIN_RATIO_ERROR, RATIO_PER_NOISE, MAX_RATIO_ERROR = 0.02, 0.6, 0.25
"""By how much it may differ however exact the measurement is: on another base, as a quantised one, it is another effect.

At least, per nat of what the base differs by, and at most.
"""
PART_SCORE, PART_SHARE = 5.0, 0.4
"""From which score, and which share of its effect missing, a part counts as not applied."""
MAX_PART_NOISE = 0.15
"""Up to which difference of the base, nats per token, parts are compared: types differ by less, quantised bases by more."""


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
        return self.ratio_error is not None and 2 * STANDARD_ERRORS * self.ratio_error < 1

    @property
    def ratio_is_off(self) -> bool:
        """Whether more or less of the effect is served than noise explains."""
        if self.ratio is None or not self.is_shown:
            return False
        return abs(self.ratio_score) > STANDARD_ERRORS and abs(self.ratio - 1) > self.tolerated

    @property
    def tolerated(self) -> float:
        """By which share the size may differ however exactly it is measured."""
        return min(MAX_RATIO_ERROR, max(MIN_RATIO_ERROR, RATIO_PER_NOISE * self.noise))

    @property
    def compares_parts(self) -> bool:
        """Whether a missing part is told from what the base differs by."""
        return self.is_shown and self.noise <= MAX_PART_NOISE


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
    return replace(effect, missing_part=_missing_part(missing, trained)) if effect.compares_parts else effect


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
