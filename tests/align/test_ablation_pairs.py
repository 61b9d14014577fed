"""How bench/training/ablation.py makes pairs, and that a batch answers each row as asked."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.training.ablation_grid import arm_cells, recipe_cells
from bench.training.answers import Answer, GreedyRows
from bench.training.pair_making import make_pair, pieces, rule_of
from bench.training.prompts import exchanges

SHORTER = rule_of("shorter", {})


def answers(*counts: int) -> list[Answer]:
    """Return answers of so many words, no two with a word in common."""
    return [Answer(" ".join(f"w{n}x{i}" for i in range(n)) + ".", cut=False) for n in counts]


def pair(arm: str, found: list[Answer], rule: Any = SHORTER, known: str = "") -> tuple[str, str] | None:
    made = make_pair(arm, rule, "Why?", found, known, random.Random(0))
    return made and (made["chosen"][0]["content"], made["rejected"][0]["content"])


@pytest.mark.parametrize(
    ("arm", "chosen", "rejected"),
    [("two", 0, 1), ("best-worst-4", 2, 3), ("best-worst-8", 4, 7), ("best-low-8", 4, 3)],
)
def test_an_arm_takes_the_answers_that_its_name_says(arm: str, chosen: int, rejected: int) -> None:
    found = answers(20, 30, 15, 60, 10, 12, 70, 90)
    assert pair(arm, found) == (found[chosen].text, found[rejected].text)


def test_answers_of_nearly_equal_worth_make_a_pair_only_where_alike_ones_are_kept() -> None:
    found = answers(20, 21, 20, 20, 21, 20, 21, 20)
    assert pair("best-worst-8", found) is None
    assert pair("best-worst-8-alike", found) is not None


def test_off_policy_pairs_come_from_the_known_answer() -> None:
    known = "One. Two words, perhaps. Three more words here."
    made = pair("off-policy", [], rule_of("no-comma", {}), known)
    assert made is not None
    assert "," in made[1]
    assert "," not in made[0]
    assert set(made) <= set(pieces(known))


def test_rows_of_a_batch_are_sampled_or_greedy_as_asked() -> None:
    scores = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    found = GreedyRows(torch.tensor([True, False]))(torch.zeros(2, 1, dtype=torch.long), scores)
    assert found.softmax(-1)[0].tolist() == [0.0, 1.0, 0.0]
    assert found[1].equal(scores[1])


def test_cells_of_the_same_name_are_the_same() -> None:
    cells = [*recipe_cells(), *arm_cells(2e-4)]
    by_name = {cell.name: cell for cell in cells}
    assert [by_name[cell.name] for cell in cells] == cells
    assert all(len(cell.name) < 200 for cell in cells)


def test_exchanges_of_a_file_may_hold_any_line_separator(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"question": "Why\u2028so?", "answer": "Since\u0085then."}\n')
    assert list(exchanges(tmp_path / "prompts.jsonl")) == [("Why\u2028so?", "Since\u0085then.")]
