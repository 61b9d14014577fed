"""DPO (2305.18290) and its relatives with a LoRA adapter, on transformers' `Trainer`.

The loss and its gradient are those of TRL's `DPOTrainer` (tests/align/training/test_equal_trl.py); computed differently:

* each prompt is computed once for its two answers, and nothing is computed on padding (`align.training.packed.packing`);
* log-probabilities only of answer tokens, a few rows of logits at a time, differentiated in the forward pass
  (`align.training.packed.logprobs`);
* the reference is evaluated once per row before training, not in every step, and cached across runs
  (`align.training.scoring`). It is the policy as it was before the first step: the base, or the start adapter.
* a pair's weight multiplies its loss; weights are scaled to a mean of one.

A crash loses the steps since the last checkpoint. Not covered: full fine-tuning, vision, TRL's `aot`,
`discopop`, length desensitisation, f-divergences, and WPO weights.
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
from align.training.methods.losses import PairScores, pair_loss
from align.training.packed.packing import Pack, pack
from align.training.scoring import Scores, as_tensor, preference_measures
from align.training.session import Session
from align.training.texts.data import Row
from align.training.trainer import PackedTrainer, Trained, normalized_weights, train
from common.training_methods import Method as MethodName

METRICS = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
)


class PairTrainer(PackedTrainer):
    """Trains on packed pairs whose reference log-probabilities are known."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the mean weighted loss of the micro-batch's pairs."""
        recipe, batch = self.session.recipe, inputs["pack"]
        with self.session.autocast():
            logps = batch.sum_by_answer(model(pack=batch))
        scores = pair_scores(batch, logps, inputs["reference"])
        losses = pair_loss(scores, recipe.loss_type, recipe.loss_weights, recipe.beta, recipe.label_smoothing)
        loss = self.finite((losses * inputs["weight"]).mean())
        self._record(scores, logps, inputs["tokens"])
        return loss

    def _record(self, scores: PairScores, logps: Tensor, tokens: int) -> None:
        beta = self.session.recipe.beta
        chosen, rejected = beta * scores.chosen.detach(), beta * scores.rejected.detach()
        means = torch.stack(
            [
                chosen.mean(),
                rejected.mean(),
                (chosen > rejected).float().mean(),
                (chosen - rejected).mean(),
                logps[0::2].detach().mean(),
                logps[1::2].detach().mean(),
            ]
        )
        values = self.session.group.mean(means.cpu()).tolist()
        for name, value in zip(METRICS, values, strict=True):
            self.row_metrics[name].append(value)
        self.watch.count(chosen.numel(), tokens)


def pair_scores(batch: Pack, logps: Tensor, reference: Tensor) -> PairScores:
    """Return the scores of pairs from their answers' log-probabilities (2 B) and the reference's (B, 2)."""
    ratios = logps - reference.flatten()
    lengths = batch.lengths.float()
    return PairScores(ratios[0::2], ratios[1::2], lengths[0::2], lengths[1::2], logps[0::2])


class PairCollator:
    """Turns row numbers into a packed micro-batch: `pack`, `reference` (B, 2), `weight` (B), `tokens`."""

    def __init__(self, rows: Sequence[Row], reference: Scores, weights: Tensor, share: bool) -> None:
        self.rows = rows
        self.reference = as_tensor(reference)
        self.weights = weights
        self.share = share

    def __call__(self, examples: list[dict[str, int]]) -> dict[str, Any]:
        """Pack the rows whose numbers are in `examples`."""
        index = [example["row"] for example in examples]
        chosen = [self.rows[i] for i in index]
        return {
            "pack": pack([row.tree for row in chosen], self.share),
            "reference": self.reference[index],
            "weight": self.weights[index],
            "tokens": sum(row.tokens for row in chosen),
        }


def build(
    session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], reference: Scores, watch: Watch
) -> PairTrainer:
    """Make the trainer for the session's present micro-batch."""
    collator = PairCollator(rows, reference, normalized_weights(rows), session.recipe.share_prompt)
    return PairTrainer(session, watch, model, tokenizer, len(rows), collator)


class Dpo:
    """Preference pairs against the model as it was before the first step."""

    name: MethodName = "dpo"
    needs_reference = ROW_SHAPES["dpo"].needs_reference

    def check(self, rows: Sequence[Row]) -> None:
        """Accept any rows."""

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Return the pairs themselves."""
        return list(rows)

    def fit(
        self, session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], reference: Scores
    ) -> Trained:
        """Train the model's adapter in place."""
        return train(session, lambda w: build(session, model, tokenizer, rows, reference, w), model)

    def measures(
        self, rows: Sequence[Row], policy: Scores, reference: Scores | None, recipe: Recipe
    ) -> dict[str, Any]:
        """Return accuracies, margins and loss on held-out pairs."""
        return preference_measures(rows, policy, reference, recipe.beta)
