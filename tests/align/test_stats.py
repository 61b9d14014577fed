"""Intervals against values that can be looked up or redone, and their coverage where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from align.stats import (
    Estimate,
    difference_interval,
    mean_interval,
    ratio_interval,
    share_interval,
    tango,
    wilson,
)
from bench.deciding import interval_coverage


def ends(found: Estimate) -> tuple[float, float]:
    return found["low"], found["high"]


def test_wilson_against_the_published_values() -> None:
    # Newcombe (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for successes, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = wilson(successes, n)
        assert (found["low"], found["high"]) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
        assert found["n"] == n


def test_tango_without_a_discordant_pair_is_the_closed_form() -> None:
    z2 = 1.959963984540054**2
    for n in (6, 10, 64):
        assert ends(tango(0, 0, n)) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)), abs=1e-9)


@pytest.mark.parametrize(("b", "c", "n"), [(9, 2, 20), (0, 5, 12), (30, 31, 90)])
def test_tango_ends_where_the_constrained_likelihood_puts_the_score_at_z(b: int, c: int, n: int) -> None:
    """The discordant shares at each end maximise the likelihood with their difference fixed, by brute force."""
    for end in ends(tango(b, c, n)):
        second = np.linspace(1e-9, 1 - 1e-9, 2_000_001)
        first = second + end
        rest = 1 - first - second
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = b * np.log(first) + c * np.log(second) + (n - b - c) * np.log(rest)
        best = int(np.nanargmax(np.where((first > 0) & (rest > 0), logs, np.nan)))
        variance = n * (first[best] + second[best] - end * end)
        assert abs(b - c - n * end) / math.sqrt(variance) == pytest.approx(1.96, abs=5e-3)


def test_the_mean_has_the_interval_of_student() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert found["value"] == 2.5
    assert found["high"] - 2.5 == pytest.approx(3.182446 * (5 / 3 / 4) ** 0.5, abs=1e-5)


def test_one_cluster_gives_a_value_without_an_interval() -> None:
    assert mean_interval([7.0]) == {"value": 7.0, "low": None, "high": None, "n": 1}
    assert mean_interval([7.0, 8.0, 9.0], ["p", "p", "p"]) == {
        "value": 8.0,
        "low": None,
        "high": None,
        "n": 1,
    }
    assert ratio_interval([2.0], [1.0])["low"] is None
    low, high = ends(share_interval([1.0, 1.0, 1.0], ["p", "p", "p"]))
    assert (low, high) == ends(wilson(1, 1))


def test_rows_of_a_cluster_count_as_one() -> None:
    values, clusters = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0], list("abcdefg")
    for interval in (mean_interval, share_interval):
        assert interval(values * 3, clusters * 3) == interval(values)
    assert difference_interval(values * 3, [0.0] * 21, clusters * 3) == difference_interval(values, [0.0] * 7)


def test_what_is_common_to_both_cancels_in_pairs() -> None:
    hard = [float(i * 100) for i in range(20)]
    found = difference_interval([x + 1 for x in hard], hard)
    assert (found["value"], found["low"], found["high"]) == (1.0, 1.0, 1.0)


def test_no_discordant_pair_is_no_proof_of_equality() -> None:
    found = difference_interval([1.0] * 10, [1.0] * 10)
    assert found["value"] == 0
    assert found["high"] == -found["low"] == pytest.approx(0.2776, abs=1e-4)


def test_a_ratio_of_means() -> None:
    found = ratio_interval([20.0, 40.0, 60.0], [10.0, 20.0, 30.0])
    assert (found["value"], found["low"], found["high"]) == (
        pytest.approx(2),
        pytest.approx(2),
        pytest.approx(2),
    )
    assert ratio_interval([0.0, 0.0], [10.0, 20.0]) == {"value": 0.0, "low": None, "high": None, "n": 2}


def test_the_same_data_give_the_same_interval() -> None:
    values = [float(i % 7) for i in range(40)]
    assert mean_interval(values) == mean_interval(values)


@pytest.mark.parametrize("n", [6, 16, 64])
@pytest.mark.parametrize("case", list(interval_coverage.CASES))
def test_intervals_cover_the_truth(case: str, n: int) -> None:
    """Clusters of three: at nominal 95%, at least 92%; less by what Student's t misses of a skewed mean."""
    stories = 300
    least = {"mean, skewed": {6: 0.84, 16: 0.86}.get(n, 0.91)}.get(case, 0.92)
    covered, _ = interval_coverage.coverage(case, n, stories, seed=1)
    slack = 2.6 * math.sqrt(least * (1 - least) / stories)
    assert covered >= least - slack


Empty = Callable[[], Any]


@pytest.mark.parametrize(
    "empty",
    [
        lambda: wilson(0, 0),
        lambda: tango(0, 0, 0),
        lambda: mean_interval([]),
        lambda: share_interval([]),
        lambda: difference_interval([], []),
    ],
)
def test_nothing_has_no_estimate(empty: Empty) -> None:
    with pytest.raises(ValueError, match="at least one"):
        empty()


def test_lengths_that_differ_are_refused() -> None:
    for interval in (difference_interval, ratio_interval):
        with pytest.raises(ValueError, match="as many"):
            interval([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="as many"):
        mean_interval([1.0, 2.0], ["p"])
