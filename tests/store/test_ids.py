"""Ids sort by time and hold 128 bits in Crockford's base 32."""

from __future__ import annotations

import pytest

from store import ids


@pytest.mark.parametrize("value", [0, 1, 31, 32, 2**80 - 1, 2**80, 2**127 + 12345, 2**128 - 1])
def test_an_id_encodes_five_bits_per_letter(value: int) -> None:
    text = ids._encode(value)
    decoded = 0
    for letter in text:
        decoded = decoded * 32 + ids._ALPHABET.index(letter)
    assert (len(text), decoded) == (26, value)


def test_ids_of_one_process_increase() -> None:
    made = [ids.new_id("run"), *ids.next_ids("run", 100), ids.new_id("run")]
    assert made == sorted(set(made))
