"""Intervals against values that can be looked up or redone."""

from __future__ import annotations

import pytest

from align.stats import mean_interval, paired_bootstrap, wilson


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


def test_mean_and_its_normal_interval() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert found["value"] == 2.5
    assert found["high"] - 2.5 == pytest.approx(1.96 * (5 / 3 / 4) ** 0.5, abs=1e-3)
    assert mean_interval([7.0]) == {"value": 7.0, "low": 7.0, "high": 7.0, "n": 1}


def test_what_is_common_to_both_cancels_in_pairs() -> None:
    hard = [float(i * 100) for i in range(20)]
    found = paired_bootstrap([x + 1 for x in hard], hard)
    assert (found["value"], found["low"], found["high"]) == (1.0, 1.0, 1.0)


def test_the_bootstrap_covers_no_difference_when_there_is_none() -> None:
    values = [float(i % 2) for i in range(40)]
    found = paired_bootstrap(values, values[1:] + values[:1])
    assert found["low"] <= 0 <= found["high"]
    assert found == paired_bootstrap(values, values[1:] + values[:1])  # reproducible


def test_nothing_has_no_estimate() -> None:
    for empty in (lambda: wilson(0, 0), lambda: mean_interval([]), lambda: paired_bootstrap([], [])):
        with pytest.raises(ValueError, match="at least one"):
            empty()
    with pytest.raises(ValueError, match="as many"):
        paired_bootstrap([1.0], [1.0, 2.0])
