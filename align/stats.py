"""Estimates with their 95% confidence intervals: `{"value", "low", "high", "n"}`. Standard library only."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence

Z = 1.959963984540054  # standard normal quantile of 0.975


def wilson(successes: float, n: int) -> dict[str, float]:
    """Share of successes with Wilson's score interval (1927); ties may be counted as half a success.

    Raises `ValueError` for n < 1.
    """
    if n < 1:
        raise ValueError("a share needs at least one observation")
    share = successes / n
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return {"value": share, "low": max(0.0, centre - half), "high": min(1.0, centre + half), "n": n}


def mean_interval(values: Iterable[float]) -> dict[str, float]:
    """Mean with the normal interval of its standard error; one value gives an interval of that value
    alone."""
    items = [float(v) for v in values]
    n = len(items)
    if not n:
        raise ValueError("a mean needs at least one observation")
    mean = math.fsum(items) / n
    half = 0.0
    if n > 1:
        half = Z * math.sqrt(math.fsum((v - mean) ** 2 for v in items) / (n - 1) / n)
    return {"value": mean, "low": mean - half, "high": mean + half, "n": n}


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    statistic: Callable[[Sequence[float]], float] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """Difference of the means of paired values, `a` minus `b`, with its percentile bootstrap interval.

    The pairs are resampled, so what is common to both (a hard prompt) cancels (Efron 1979; Koehn 2004 for
    systems compared on the same prompts). Reproducible by `seed`. Raises `ValueError` for lengths that
    differ or are zero.
    """
    if len(a) != len(b) or not a:
        raise ValueError("paired values must be as many as each other, and at least one")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    take = statistic or (lambda values: math.fsum(values) / len(values))
    generator = random.Random(seed)
    n = len(differences)
    draws = sorted(take(generator.choices(differences, k=n)) for _ in range(resamples))
    low, high = draws[int(0.025 * resamples)], draws[min(resamples - 1, int(0.975 * resamples))]
    return {"value": take(differences), "low": low, "high": high, "n": n}
