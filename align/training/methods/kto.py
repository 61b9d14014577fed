"""KTO (2402.01306): likes and dislikes of single answers, with a LoRA adapter, on transformers' `Trainer`.

The loss makes a liked answer likelier and a disliked one less likely, relative to a reference point: how far the
policy has moved from the reference on answers that do not belong to their prompts. As in TRL's `KTOTrainer`
that point is the mean log ratio of mismatched rows, at least zero and without a gradient; here row i's
prompt is paired with row i - 1's answer, for the whole data set rather than within a batch, so that the reference of
those rows is known beforehand too. Rows are packed (`align.training.packed.packing`); a row's own and its mismatched answer
share their prompt.

A crash loses the steps since the last checkpoint. Not covered: TRL's `apo_zero_unpaired`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from align.errors import DataError
from align.recipe.methods import ROW_SHAPES
from align.recipe.recipe import Recipe
from align.training.callbacks import Watch
from align.training.packed.packing import Pack, Tree, pack
from align.training.scoring import Scores, as_tensor, label_measures
from align.training.session import Session
from align.training.texts.data import Row
from align.training.trainer import PackedTrainer, Trained, normalized_weights, train
from common.training_methods import Method as MethodName


def mismatched(rows: Sequence[Row]) -> list[Row]:
    """Return each row's prompt with the answer of the row before it (the first gets the last's)."""
    return [
        Row(
            row.id,
            Tree(row.tree.prompt, rows[i - 1].tree.answers, rows[i - 1].tree.counted),
            row.weight,
            row.desirable,
        )
        for i, row in enumerate(rows)
    ]


def kto_losses(ratios: Tensor, point: Tensor, desirable: Tensor, beta: float) -> Tensor:
    """Return 1 - sigmoid(beta (ratio - point)) for liked rows and 1 - sigmoid(beta (point - ratio)) for
    others (B)."""
    sign = torch.where(desirable, 1.0, -1.0)
    return 1 - torch.sigmoid(beta * sign * (ratios - point))


class LikeTrainer(PackedTrainer):
    """Trains on packed likes whose reference log-probabilities are known."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the mean weighted loss of the micro-batch's rows."""
        recipe, group = self.session.recipe, self.session.group
        batch: Pack = inputs["pack"]
        other: Pack = inputs["mismatched"]
        with self.session.autocast():
            with torch.no_grad():
                moved = other.sum_by_answer(model(pack=other)) - inputs["mismatched_reference"]
            logps = batch.sum_by_answer(model(pack=batch))
        ratios = logps - inputs["reference"]
        point = group.mean(moved.mean()).to(moved.device).clamp(min=0)
        desirable = inputs["desirable"]
        sides = torch.where(desirable, recipe.desirable_weight, recipe.undesirable_weight)
        losses = kto_losses(ratios, point, desirable, recipe.beta) * sides * inputs["weight"]
        loss = self.finite(losses.mean())
        self.row_metrics["kl"].append(point.item())
        self._record(recipe.beta * ratios.detach(), desirable)
        self.watch.count(ratios.numel(), inputs["tokens"])
        return loss

    def _record(self, rewards: Tensor, desirable: Tensor) -> None:
        means = {}
        for name, chosen in (("rewards/chosen", desirable), ("rewards/rejected", ~desirable)):
            if bool(chosen.any()):
                means[name] = rewards[chosen].mean().item()
        if len(means) == 2:
            means["rewards/margins"] = means["rewards/chosen"] - means["rewards/rejected"]
        means["rewards/accuracies"] = ((rewards > 0) == desirable).float().mean().item()
        for name, value in means.items():
            self.row_metrics[name].append(value)


class LikeCollator:
    """Turns row numbers into two packs, their references and labels."""

    def __init__(self, rows: Sequence[Row], reference: Scores, point: Scores, weights: Tensor) -> None:
        self.rows = rows
        self.other = mismatched(rows)
        self.reference = as_tensor(reference)[:, 0]
        self.point = as_tensor(point)[:, 0]
        self.weights = weights

    def __call__(self, examples: list[dict[str, int]]) -> dict[str, Any]:
        """Pack the rows whose numbers are in `examples`."""
        index = [example["row"] for example in examples]
        return {
            "pack": pack([self.rows[i].tree for i in index]),
            "mismatched": pack([self.other[i].tree for i in index]),
            "reference": self.reference[index],
            "mismatched_reference": self.point[index],
            "desirable": torch.tensor([self.rows[i].desirable for i in index]),
            "weight": self.weights[index],
            "tokens": sum(self.rows[i].tokens for i in index),
        }


def build(
    session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], reference: Scores, watch: Watch
) -> LikeTrainer:
    """Make the trainer for the session's present micro-batch; `reference` holds the rows', then the mismatched rows'."""
    own, other = reference[: len(rows)], reference[len(rows) :]
    collator = LikeCollator(rows, own, other, normalized_weights(rows))
    return LikeTrainer(session, watch, model, tokenizer, len(rows), collator)


class Kto:
    """Liked and disliked answers against the model as it was before the first step."""

    name: MethodName = "kto"
    needs_reference = ROW_SHAPES["kto"].needs_reference

    def check(self, rows: Sequence[Row]) -> None:
        """Raise `DataError` when all answers have the same label."""
        if len({row.desirable for row in rows}) == 1:
            raise DataError(
                f"all {len(rows)} answers were {'liked' if rows[0].desirable else 'disliked'}: KTO learns from both",
                "collect likes and dislikes, or train on the liked answers with SFT",
            )

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows, then the mismatched ones."""
        return [*rows, *mismatched(rows)]

    def fit(
        self, session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], reference: Scores
    ) -> Trained:
        """Train the model's adapter in place."""
        return train(session, lambda w: build(session, model, tokenizer, rows, reference, w), model)

    def measures(
        self, rows: Sequence[Row], policy: Scores, reference: Scores | None, recipe: Recipe
    ) -> dict[str, Any]:
        """Return how often rewards agree with labels on held-out likes."""
        return label_measures(rows, policy, reference, recipe.beta)
