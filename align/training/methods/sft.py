"""Supervised fine-tuning on demonstrations with a LoRA adapter, on transformers' `Trainer`.

The loss is the mean negative log-likelihood of the completion's tokens over a whole step, as in TRL with
`completion_only_loss`. Rows are packed without padding and never attend to one another
(`align.training.packed.packing`). A demonstration's weight multiplies the loss of its tokens; weights are scaled to a
mean of one. A crash loses the steps since the last checkpoint. Not covered: loss on prompts, full fine-tuning, vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from align.recipe.methods import ROW_SHAPES
from align.recipe.recipe import Recipe
from align.training.callbacks import Watch
from align.training.packed.packing import Pack, pack
from align.training.scoring import Scores, likelihood_measures
from align.training.session import Session
from align.training.texts.data import Row
from align.training.trainer import PackedTrainer, Trained, normalized_weights, train
from common.training_methods import Method as MethodName


class DemonstrationTrainer(PackedTrainer):
    """Trains on packed demonstrations."""

    loss_is_scaled_for_ga = True  # divided by the tokens of the whole step

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: Any) -> int:
        mine = sum(sample["pack"].targets.numel() for sample in batch_samples)
        return int(self.session.group.sum(torch.tensor([mine]))[0])

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the micro-batch's share of the step's mean loss per token."""
        batch: Pack = inputs["pack"]
        with self.session.autocast():
            logps = model(pack=batch)
        total = -(logps * inputs["weight"][batch.answer]).sum()
        # Processes average their gradients; the step's mean per token is over the tokens of all of them.
        size = self.session.group.size if num_items_in_batch else 1
        loss = self.finite(total * size / (num_items_in_batch or batch.targets.numel()))
        self.row_metrics["logps/token"].append(logps.detach().mean().item())
        self.watch.count(batch.lengths.numel(), inputs["tokens"])
        return loss


class DemonstrationCollator:
    """Turns row numbers into a packed micro-batch: `pack`, `weight` (B), `tokens`."""

    def __init__(self, rows: Sequence[Row], weights: Tensor) -> None:
        self.rows = rows
        self.weights = weights

    def __call__(self, examples: list[dict[str, int]]) -> dict[str, Any]:
        """Pack the rows whose numbers are in `examples`."""
        index = [example["row"] for example in examples]
        chosen = [self.rows[i] for i in index]
        return {
            "pack": pack([row.tree for row in chosen]),
            "weight": self.weights[index],
            "tokens": sum(row.tokens for row in chosen),
        }


def build(
    session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], watch: Watch
) -> DemonstrationTrainer:
    """Make the trainer for the session's present micro-batch."""
    collator = DemonstrationCollator(rows, normalized_weights(rows))
    return DemonstrationTrainer(session, watch, model, tokenizer, len(rows), collator)


class Sft:
    """Demonstrations, without a reference."""

    name: MethodName = "sft"
    needs_reference = ROW_SHAPES["sft"].needs_reference

    def check(self, rows: Sequence[Row]) -> None:
        """Accept any rows."""

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Return no rows: there is no reference."""
        return []

    def fit(
        self, session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], reference: Scores
    ) -> Trained:
        """Train the model's adapter in place."""
        return train(session, lambda w: build(session, model, tokenizer, rows, w), model)

    def measures(
        self, rows: Sequence[Row], policy: Scores, reference: Scores | None, recipe: Recipe
    ) -> dict[str, Any]:
        """Return loss and perplexity on held-out demonstrations."""
        return likelihood_measures(rows, policy)
