"""Losses that can be redone on paper: one pair, log ratios chosen so that the answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from align.errors import RecipeError
from align.recipe.fields import LOSS_TYPES
from align.training.methods.kto import kto_losses, mismatched
from align.training.methods.losses import PAIR_LOSSES, PairScores, pair_loss
from align.training.packed.packing import Tree
from align.training.texts.data import Row


def scores(chosen: float, rejected: float, logps: float = -8.0) -> PairScores:
    """Two tokens chosen, four rejected."""
    return PairScores(*(torch.tensor([v]) for v in (chosen, rejected, 2.0, 4.0, logps)))


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


# With beta 0.1: log ratios +10 and -10 give rewards 1 and -1 and beta delta = 2; a token 5 and -2.5.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sigmoid", -log_sigmoid(2)),
        ("hinge", 0.0),
        ("ipo", (7.5 - 5.0) ** 2),
        ("robust", (-0.9 * log_sigmoid(2) + 0.1 * log_sigmoid(-2)) / 0.8),
        ("nca_pair", -log_sigmoid(1) - 0.5 * log_sigmoid(-1) - 0.5 * log_sigmoid(1)),
        ("bco_pair", -2 * log_sigmoid(1)),
        ("sppo_hard", (10 - 5) ** 2 + (-10 + 5) ** 2),
        ("apo_zero", 2 / (1 + math.e)),
        ("apo_down", 1 / (1 + math.exp(-1)) + 1 - 1 / (1 + math.exp(-2))),
        ("sigmoid_norm", -log_sigmoid(0.75)),
        ("sft", 4.0),
    ],
)
def test_one_pair_by_hand(name: str, expected: float) -> None:
    assert pair_loss(scores(10, -10), (name,), None, 0.1, 0.1).item() == pytest.approx(expected, rel=1e-5)


def test_exo_is_zero_when_the_policy_believes_the_votes_as_much_as_it_should() -> None:
    # sigmoid(beta delta) = 0.9 = 1 - smoothing: both sides of the divergence are equal.
    delta = math.log(9) / 0.1
    assert pair_loss(scores(delta, 0), ("exo_pair",), None, 0.1, 0.1).item() == pytest.approx(0, abs=1e-5)


def test_policy_equal_to_reference_costs_log_2() -> None:
    assert pair_loss(scores(0, 0), ("sigmoid",), None, 0.1, 0).item() == pytest.approx(math.log(2))


def test_losses_add_with_their_weights() -> None:
    both = pair_loss(scores(10, -10), ("sigmoid", "sft"), (1.0, 0.5), 0.1, 0).item()
    assert both == pytest.approx(-log_sigmoid(2) + 0.5 * 4.0)


def test_sft_is_the_mean_over_the_tokens_of_the_batch() -> None:
    batch = PairScores(
        torch.zeros(2), torch.zeros(2), torch.tensor([1.0, 3.0]), torch.ones(2), torch.tensor([-2.0, -4.0])
    )
    assert pair_loss(batch, ("sft",), None, 0.1, 0).mean().item() == pytest.approx(6 / 4)


def test_recipe_offers_exactly_what_is_there() -> None:
    assert tuple(PAIR_LOSSES) == LOSS_TYPES
    with pytest.raises(RecipeError, match="loss_type"):
        pair_loss(scores(0, 0), ("aot",), None, 0.1, 0)


def test_kto_by_hand() -> None:
    # beta 0.1, point 2: liked 12 -> 1 - sigmoid(1); disliked 12 -> 1 - sigmoid(-1).
    found = kto_losses(torch.tensor([12.0, 12.0]), torch.tensor(2.0), torch.tensor([True, False]), 0.1)
    assert found.tolist() == pytest.approx([1 / (1 + math.e), 1 / (1 + math.exp(-1))])


def test_kto_pairs_each_prompt_with_the_answer_before() -> None:
    rows = [Row(str(i), Tree([i], ([10 + i],))) for i in range(3)]
    assert [(r.tree.prompt, r.tree.answers) for r in mismatched(rows)] == [
        ([0], ([12],)),
        ([1], ([10],)),
        ([2], ([11],)),
    ]
