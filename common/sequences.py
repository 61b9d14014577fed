"""Sequences."""

from __future__ import annotations

from collections.abc import Sequence


def common_prefix_length(a: Sequence[object], b: Sequence[object]) -> int:
    """Return how many items `a` and `b` begin with in common."""
    different = (place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(different, min(len(a), len(b)))


def mean_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the mean absolute difference of two series of one length, 0 for empty ones; raises ValueError for others."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / max(1, len(one))
