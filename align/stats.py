"""Estimates with their 95% confidence intervals: `{"value", "low", "high", "n"}`.

The unit is the *cluster*: rows that share a prompt or a conversation are averaged first, and `n` counts clusters. Without
`clusters` each row is its own. An interval that the data cannot give (one cluster) has `low` and `high` None.
Which interval is used, and its coverage on data with a known truth, is in docs/evaluation.md.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Estimate = dict[str, Any]
Clusters = Sequence[Hashable] | None
Values: TypeAlias = NDArray[np.float64]

Z = 1.959963984540054  # standard normal quantile of 0.975
BOOTSTRAP_FROM = 20  # clusters; with fewer, Student's t covers better
RESAMPLES = 2000


def wilson(successes: float, n: float) -> Estimate:
    """Share of successes with Wilson's score interval (1927); ties may be counted as half a success.

    Raises `ValueError` for n <= 0.
    """
    if n <= 0:
        raise ValueError("a share needs at least one observation")
    share = successes / n
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(max(0.0, share * (1 - share)) / n + Z * Z / (4 * n * n))
    return {"value": share, "low": max(0.0, centre - half), "high": min(1.0, centre + half), "n": n}


def share_interval(values: Iterable[float], clusters: Clusters = None) -> Estimate:
    """Mean of values within [0, 1] by Wilson's interval at the effective number of observations.

    That number is what makes the binomial variance equal to the variance between clusters, with Student's t
    in place of z for its uncertainty (Korn and Graubard 1998; Franco et al. 2019). Where clusters do not
    differ, it is the number of clusters, which is the least that it can be.
    """
    rows = _values(values)
    means = _by_cluster(rows, clusters)
    share = float(means.mean())
    if set(means.tolist()) <= {0.0, 1.0}:
        return {**wilson(float(means.sum()), len(means)), "n": len(means)}
    effective = _effective(share * (1 - share), means, len(rows))
    return {**wilson(share * effective, effective), "value": share, "n": len(means)}


def mean_interval(values: Iterable[float], clusters: Clusters = None) -> Estimate:
    """Mean with the bootstrap-t interval over clusters, Student's t below `BOOTSTRAP_FROM` clusters."""
    means = _by_cluster(_values(values), clusters)
    low, high = _t_or_bootstrap(means)
    return {"value": float(means.mean()), "low": low, "high": high, "n": len(means)}


def difference_interval(a: Iterable[float], b: Iterable[float], clusters: Clusters = None) -> Estimate:
    """Mean of paired differences, `a` minus `b`; what is common to both (a hard prompt) cancels.

    Paired successes (0, 1/2 or 1) get Tango's score interval at the effective number of pairs, which is not of
    width zero where no pair differs. Raises `ValueError` for lengths that differ or are zero.
    """
    first, second = _values(a), _values(b)
    if len(first) != len(second):
        raise ValueError("paired values must be as many as each other")
    rows = first - second
    means = _by_cluster(rows, clusters)
    value = float(means.mean())
    if not (_are_scores(first) and _are_scores(second)):
        low, high = _t_or_bootstrap(means)
        return {"value": value, "low": low, "high": high, "n": len(means)}
    up = float(_by_cluster(np.maximum(rows, 0), clusters).mean())
    down = float(_by_cluster(np.maximum(-rows, 0), clusters).mean())
    effective: float = len(means)
    if not set(means.tolist()) <= {-1.0, 0.0, 1.0}:
        effective = _effective(up + down - value * value, means, len(rows))
    found = tango(up * effective, down * effective, effective)
    return {**found, "value": value, "n": len(means)}


def ratio_interval(a: Iterable[float], b: Iterable[float], clusters: Clusters = None) -> Estimate:
    """Ratio of the means of paired positive values, by the interval of its logarithm (delta method).

    Raises `ValueError` for lengths that differ or are zero; a mean that is not above 0 gives no interval.
    """
    first, second = _values(a), _values(b)
    if len(first) != len(second):
        raise ValueError("paired values must be as many as each other")
    top, bottom = _by_cluster(first, clusters), _by_cluster(second, clusters)
    over, under = float(top.mean()), float(bottom.mean())
    if over <= 0 or under <= 0:
        value = over / under if under else None
        return {"value": value, "low": None, "high": None, "n": len(top)}
    centre = math.log(over / under)
    low, high = _t_or_bootstrap(centre + top / over - bottom / under)
    return {
        "value": over / under,
        "low": None if low is None else math.exp(low),
        "high": None if high is None else math.exp(high),
        "n": len(top),
    }


def tango(only_first: float, only_second: float, n: float) -> Estimate:
    """Difference of two paired shares by Tango's score interval (Statistics in Medicine 17, 1998).

    Of `n` pairs, `only_first` succeed in the first alone and `only_second` in the second alone.
    """
    if n <= 0:
        raise ValueError("a difference needs at least one pair")
    b, c = only_first, only_second

    def score(delta: float) -> float:
        """Return the score statistic with the discordant share at its constrained maximum."""
        middle = -b - c + (2 * n - b + c) * delta
        last = -c * delta * (1 - delta)
        discordant = (math.sqrt(max(0.0, middle * middle - 8 * n * last)) - middle) / (4 * n)
        variance = n * (2 * discordant + delta * (1 - delta))
        above = b - c - n * delta
        return above / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, above or 1.0)

    value = (b - c) / n
    low = -1.0 if value <= -1 else _root(lambda delta: score(delta) - Z, -1.0, value)
    high = 1.0 if value >= 1 else _root(lambda delta: score(delta) + Z, value, 1.0)
    return {"value": value, "low": low, "high": high, "n": n}


def _root(falling: Any, low: float, high: float) -> float:
    """Where a function that falls from above 0 to below 0 crosses it, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def _values(values: Iterable[float]) -> Values:
    rows: Values = np.asarray(list(values), dtype=np.float64)
    if not len(rows):
        raise ValueError("an estimate needs at least one observation")
    return rows


def _are_scores(values: Values) -> bool:
    return bool(np.isin(values, (0.0, 0.5, 1.0)).all())


def _by_cluster(rows: Values, clusters: Clusters) -> Values:
    """Return the mean of each cluster, in order of appearance."""
    if clusters is None:
        return rows
    if len(clusters) != len(rows):
        raise ValueError("clusters must be as many as values")
    place: dict[Hashable, int] = {}
    index = np.array([place.setdefault(name, len(place)) for name in clusters])
    means: Values = np.bincount(index, weights=rows) / np.bincount(index)
    return means


def _t(n: int) -> float:
    """Student's quantile of 0.975 for the mean of `n` values."""
    from scipy.special import stdtrit  # on first use: the platform starts without it

    return float(stdtrit(n - 1, 0.975))


def _effective(variance: float, means: Values, rows: int) -> float:
    """As many independent observations of `variance` as are worth these clusters; at most `rows`."""
    n = len(means)
    between = float(means.var(ddof=1)) / n if n > 1 else 0.0
    if between <= 0 or variance <= 0:
        return float(n)
    return min(float(rows), variance / between * (Z / _t(n)) ** 2)


def _t_or_bootstrap(means: Values) -> tuple[float | None, float | None]:
    n = len(means)
    if n < 2:
        return None, None
    centre, error = float(means.mean()), float(means.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * abs(centre):
        return centre, centre
    if n < BOOTSTRAP_FROM:
        return centre - _t(n) * error, centre + _t(n) * error
    return _bootstrap_t(means, centre, error)


def _bootstrap_t(means: Values, centre: float, error: float) -> tuple[float, float]:
    """Quantiles of the studentised mean over resampled clusters (Efron and Tibshirani 1993, ch. 12); reproducible."""
    n = len(means)
    generator = np.random.default_rng(0)
    drawn: list[float] = []
    for _ in range(max(1, -(-RESAMPLES * n // 1_000_000))):  # at most a million values at a time
        many = min(RESAMPLES, max(1, 1_000_000 // n))
        sample = means[generator.integers(0, n, (many, n))]
        errors = sample.std(axis=1, ddof=1) / math.sqrt(n)
        known = errors > 1e-12 * max(abs(centre), error)
        drawn += ((sample.mean(axis=1)[known] - centre) / errors[known]).tolist()
    tails: Any = np.quantile(drawn, (0.025, 0.975))
    # not much narrower than Student's t, for a sample that happens to look even
    reach = 0.9 * _t(n)
    return centre - max(float(tails[1]), reach) * error, centre - min(float(tails[0]), -reach) * error
