"""Coverage of the 95% intervals of align.stats: clusters of three rows, 6, 16 and 64 clusters.

usage: python -m bench.deciding.interval_coverage [--stories 4000] [--quick]

Each case draws data whose truth is known; beside ours stands the interval that takes every row for independent.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from align.stats import (
    Estimate,
    Z,
    difference_interval,
    mean_interval,
    ratio_interval,
    share_interval,
    wilson,
)

ROWS = 3
Values: TypeAlias = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Estimate, Estimate, float]]


def _share(p: float, icc: float) -> Draw:
    """Draw successes whose probability varies between clusters with this intraclass correlation."""

    def draw(random: np.random.Generator, n: int) -> tuple[Estimate, Estimate, float]:
        if icc == 0:
            chance = np.full(n, p)
        elif icc == 1:
            chance = (random.random(n) < p).astype(float)
        else:
            spread = (1 - icc) / icc
            chance = random.beta(p * spread, (1 - p) * spread, n)
        rows = (random.random((n, ROWS)) < chance[:, None]).astype(float).ravel()
        return share_interval(rows, _clusters(n)), wilson(rows.sum(), len(rows)), p

    return draw


def _paired(up: float, down: float, alike: float) -> Draw:
    """Draw pairs that differ up or down with these probabilities, equal in a cluster with probability `alike`."""

    def draw(random: np.random.Generator, n: int) -> tuple[Estimate, Estimate, float]:
        own, common = random.random((n, ROWS)), random.random((n, 1))
        at = np.where(random.random((n, 1)) < alike, common, own).ravel()
        first, second = (at < up).astype(float), ((at >= up) & (at < up + down)).astype(float)
        return difference_interval(first, second, _clusters(n)), _normal(first - second), up - down

    return draw


def _mean(skewed: bool) -> Draw:
    def draw(random: np.random.Generator, n: int) -> tuple[Estimate, Estimate, float]:
        between = random.normal(size=(n, 1))
        if skewed:
            between = np.exp(between) - math.exp(0.5)
        rows = (between + random.normal(size=(n, ROWS))).ravel()
        return mean_interval(rows, _clusters(n)), _normal(rows), 0.0

    return draw


def _ratio(random: np.random.Generator, n: int) -> tuple[Estimate, Estimate, float]:
    """Draw log-normal lengths of answers; a long prompt makes both long."""
    common = 0.5 * random.normal(size=(n, 1))
    first = (60 * np.exp(common + 0.5 * random.normal(size=(n, ROWS)))).ravel()
    second = (40 * np.exp(common + 0.5 * random.normal(size=(n, ROWS)))).ravel()
    ours = ratio_interval(first, second, _clusters(n))
    return ours, _normal(first / second), 1.5


CASES: dict[str, Draw] = {
    "share .75, ICC 0": _share(0.75, 0.0),
    "share .75, ICC .6": _share(0.75, 0.6),
    "share .9, ICC 1": _share(0.9, 1.0),
    "paired shares, .15 - .05, independent": _paired(0.15, 0.05, 0.0),
    "paired shares, .15 - .05, alike": _paired(0.15, 0.05, 0.6),
    "paired shares, equal": _paired(0.05, 0.05, 0.6),
    "mean, normal": _mean(False),
    "mean, skewed": _mean(True),
    "ratio of lengths": _ratio,
}


def coverage(case: str, n: int, stories: int, seed: int = 0) -> tuple[float, float]:
    """Return the coverage of our interval and of the one that treats rows as independent."""
    random = np.random.default_rng(seed)
    hits = [0, 0]
    for _ in range(stories):
        *found, truth = CASES[case](random, n)
        for place, one in enumerate(found):
            hits[place] += one["low"] <= truth <= one["high"]
    return hits[0] / stories, hits[1] / stories


def _clusters(n: int) -> list[int]:
    return [place for place in range(n) for _ in range(ROWS)]


def _normal(rows: Values) -> Estimate:
    half = Z * float(rows.std(ddof=1)) / math.sqrt(len(rows))
    return {"low": float(rows.mean()) - half, "high": float(rows.mean()) + half}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="200 stories")
    asked: Any = parser.parse_args(argv)
    stories = 200 if asked.quick else asked.stories
    worst = 1.0
    print("| case | 6 clusters: ours, by rows | 16 | 64 |\n| --- | --- | --- | --- |")
    for case in CASES:
        shares = [coverage(case, n, stories) for n in (6, 16, 64)]
        worst = min(worst, *(ours for ours, _ in shares))
        cells = ["{:.1%}, {:.1%}".format(*pair) for pair in shares]
        print(f"| {case} | {' | '.join(cells)} |", flush=True)
    line = {
        "name": "interval coverage",
        "figure": round(worst, 3),
        "unit": "share, worst case",
        "budget": 0.9,
    }
    print(json.dumps(line | {"ok": worst >= 0.9, "stories": stories}))


if __name__ == "__main__":
    main()
