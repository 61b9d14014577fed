"""DPO (2305.18290) and its relatives with a LoRA adapter, on TRL's `DPOTrainer`.

What differs from the plain trainer, with the same loss and gradient (tests/align/training/test_equal_trl.py):

* each prompt is computed once for its two answers, and nothing is computed on padding (`align.training.packed.packing`);
* log-probabilities only of answer tokens, a few rows of logits at a time, differentiated in the forward pass
  (`align.training.packed.logprobs`);
* the reference is evaluated once for each row before training, not in every step, and remembered across runs
  (`align.training.scoring`). It is the policy as it was before the first step: the base, or the start adapter.
* a pair's weight multiplies its loss; weights are scaled to a mean of one.

A crash loses the steps since the last checkpoint. Not covered: full fine-tuning, vision, TRL's `aot`,
`discopop`, length desensitisation, f-divergences, and WPO weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from align.training.data import Row
from align.training.methods.losses import PairScores, pair_loss
from align.training.packed.packing import Pack, pack
from align.training.scoring import Scores, as_tensor
from align.training.session import (
    CheckpointMixin,
    Session,
    Watch,
    arguments,
    diverged,
    normalized_weights,
    train,
)


class PairTrainer(CheckpointMixin, DPOTrainer):
    """TRL's `DPOTrainer` on packed pairs with reference log-probabilities that are known beforehand."""

    watch: Watch

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset  # rows are token ids already

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the mean weighted loss of the micro-batch's pairs."""
        batch: Pack = inputs["pack"]
        with self.watch.session.autocast():
            logps = batch.sum_by_answer(model(pack=batch))
        ratios = logps - inputs["reference"].flatten()
        lengths = batch.lengths.float()
        scores = PairScores(ratios[0::2], ratios[1::2], lengths[0::2], lengths[1::2], logps[0::2])
        losses = pair_loss(
            scores,
            tuple(self.args.loss_type),
            self.args.loss_weights,
            self.args.beta,
            self.args.label_smoothing,
        )
        loss = (losses * inputs["weight"]).mean()
        if not bool(torch.isfinite(loss)):
            raise diverged(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        self._record(scores, logps, inputs)
        return loss

    def _record(self, scores: PairScores, logps: Tensor, inputs: dict[str, Any]) -> None:
        beta = self.args.beta
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
        values = self.watch.session.crew.mean(means.cpu()).tolist()
        names = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins")
        for name, value in zip((*names, "logps/chosen", "logps/rejected"), values, strict=True):
            self._metrics["train"][name].append(value)
        self.watch.count(chosen.numel(), inputs["tokens"])


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
    recipe = session.recipe
    config = DPOConfig(
        **arguments(session),
        beta=recipe.beta,
        loss_type=list(recipe.loss_type),
        loss_weights=list(recipe.loss_weights) if recipe.loss_weights else None,
        label_smoothing=recipe.label_smoothing,
    )
    # Given a PeftModel, TRL adds a frozen copy of it as reference and casts adapters on a 4-bit base to
    # bfloat16. We know the reference's values already, and keep the adapter in float32.
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    trainer = PairTrainer(
        model=model,
        args=config,
        data_collator=PairCollator(rows, reference, normalized_weights(rows), recipe.share_prompt),
        train_dataset=Dataset.from_dict({"row": list(range(len(rows)))}),
        processing_class=tokenizer,
        callbacks=[watch],
    )
    model.delete_adapter("ref")
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.data = weights[name]
    trainer.remove_callback(PrinterCallback)
    trainer.watch = watch
    return trainer


def run(
    session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], reference: Scores
) -> tuple[Watch, dict[str, Any]]:
    """Train `model`'s adapter in place; return the watch and what the report says of the training."""
    trainer, watch = train(session, lambda w: build(session, model, tokenizer, rows, reference, w), model)
    return watch, {"steps": trainer.state.global_step, "epochs": trainer.state.epoch}
