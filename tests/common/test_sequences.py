"""Common prefixes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from common.sequences import common_prefix_length


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 9, 3], 1), ("abc", "abd", 2), ("ab", "abc", 2)],
)
def test_common_prefix_length_counts_items(a: Sequence[object], b: Sequence[object], length: int) -> None:
    assert common_prefix_length(a, b) == length
