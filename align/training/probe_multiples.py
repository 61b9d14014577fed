"""The probe of an adapter at multiples of its scale.

A served base may differ from the trained one by more than the adapter does: it is quantised, or the adapter is small. At a
multiple of `lora_alpha` the effect stands out. Publishing picks the multiple, since it alone measures the served base; so
each doubling is computed up to an effect that stands out from any base that can be served. Powers of two, since engines fold
the scale into the weights, which then rounds nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from peft.tuners.lora import LoraLayer

from common.sequences import mean_distance

MAX_FACTOR = 64
FIRST_EFFECT, LAST_EFFECT = 0.1, 2.0
"""Mean effects, nats per token: multiples below the first show no more than the adapter itself; none follows the second."""
Series = list[float]


@contextlib.contextmanager
def scaled(model: torch.nn.Module, factor: float) -> Iterator[None]:
    """Compute with `factor` times the adapter's scale until the block ends."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    before = [dict(layer.scaling) for layer in layers]
    try:
        for layer, scales in zip(layers, before, strict=True):
            layer.scaling.update({name: factor * scale for name, scale in scales.items()})
        yield
    finally:
        for layer, scales in zip(layers, before, strict=True):
            layer.scaling.update(scales)


def multiples(
    base: Sequence[float], adapter: Sequence[float], compute: Callable[[int], Series]
) -> dict[str, Series]:
    """Return the series `adapter_xN` for powers of two N, where `compute` returns that of N times the adapter's scale.

    `base` and `adapter` are the series without the adapter and at its own scale; where they are equal there is none.
    """
    effect = mean_distance(adapter, base)
    if not effect > 0 or not math.isfinite(effect):
        return {}
    factor = 2
    while factor * effect < FIRST_EFFECT and factor < MAX_FACTOR:
        factor *= 2
    found: dict[str, Series] = {}
    while factor <= MAX_FACTOR:
        series = compute(factor)
        if not all(map(math.isfinite, series)):
            break  # the scaled adapter overflows, which says nothing of the adapter
        found[f"adapter_x{factor}"] = series
        if mean_distance(series, base) >= LAST_EFFECT:
            break
        factor *= 2
    return found
