"""The cards of this machine, by the output of the driver's tool."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.gpu_cards import has_cuda, read_cards
from tests.support.fake_cards import card, write_driver_tool

CARDS = [card(0, free=10), card(1, free=70, held={4711: 2**30}), card(2)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    write_driver_tool(tmp_path, CARDS)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_cards_are_read_with_their_memory_and_who_holds_it(environment: dict[str, str]) -> None:
    found = read_cards(environment)
    assert [c.index for c in found] == [0, 1, 2]
    assert found[1].name == "NVIDIA H100 80GB HBM3"
    assert found[1].held == {4711: 2**30}
    assert abs(found[1].free - CARDS[1].free) < 2**20
    assert found[0].driver_branch == 580


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("0", [0]),
        ("2,0", [2, 0]),
        ("GPU-11", [1]),
        ("1, 2", [1, 2]),
        ("1,7,2", [1]),
        ("MIG-GPU-1/2/3", []),
        ("", []),
        ("-1", []),
    ],
)
def test_only_visible_cards_count_in_their_order(
    visible: str, expected: list[int], environment: dict[str, str]
) -> None:
    assert [c.index for c in read_cards({**environment, "CUDA_VISIBLE_DEVICES": visible})] == expected


def test_a_parted_card_is_not_measured(tmp_path: Path) -> None:
    write_driver_tool(tmp_path, CARDS, parted=[1])
    found = read_cards({"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert [c.index for c in found] == [0, 2]


def test_there_are_no_cards_without_a_driver_or_with_one_that_fails(tmp_path: Path) -> None:
    assert read_cards({"PATH": str(tmp_path)}) == []
    write_driver_tool(tmp_path, CARDS, status=9)
    assert read_cards({"PATH": f"{tmp_path}:{os.environ['PATH']}"}) == []


def test_cuda_is_off_where_the_environment_hides_every_card() -> None:
    assert not has_cuda({"CUDA_VISIBLE_DEVICES": ""})
    assert not has_cuda({"CUDA_VISIBLE_DEVICES": "-1"})
