"""Supervised fine-tuning on demonstrations with a LoRA adapter, on TRL's `SFTTrainer`.

The loss is the mean negative log-likelihood of the completion's tokens over a whole step, as in TRL with
`completion_only_loss`; rows lie packed without padding and never see one another (`align.training.packed.packing`). A
demonstration's weight multiplies the loss of its tokens; weights are scaled to a mean of one. A crash loses
the steps since the last checkpoint. Not covered: loss on prompts, full fine-tuning, vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from align.training.data import Row
from align.training.packed.packing import Pack, pack
from align.training.scoring import Scores
from align.training.session import (
    CheckpointMixin,
    Session,
    Watch,
    arguments,
    diverged,
    normalized_weights,
    train,
)


class DemonstrationTrainer(CheckpointMixin, SFTTrainer):
    """TRL's `SFTTrainer` on packed demonstrations."""

    watch: Watch
    loss_is_scaled_for_ga = True

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset  # rows are token ids already

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: Any) -> int:
        mine = sum(sample["pack"].targets.numel() for sample in batch_samples)
        return int(self.watch.session.crew.sum(torch.tensor([mine]))[0])

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the micro-batch's share of the step's mean loss a token."""
        batch: Pack = inputs["pack"]
        with self.watch.session.autocast():
            logps = model(pack=batch)
        total = -(logps * inputs["weight"][batch.answer]).sum()
        # Processes average their gradients; the step's mean a token is over the tokens of all of them.
        size = self.watch.session.crew.size if num_items_in_batch else 1
        loss = total * size / (num_items_in_batch or batch.targets.numel())
        if not bool(torch.isfinite(loss)):
            raise diverged(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        self._metrics["train"]["logps/token"].append(logps.detach().mean().item())
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
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    common = arguments(session)
    common.pop("disable_dropout")
    trainer = DemonstrationTrainer(
        model=model,
        args=SFTConfig(**common, packing=False, dataset_kwargs={"skip_prepare_dataset": True}),
        data_collator=DemonstrationCollator(rows, normalized_weights(rows)),
        train_dataset=Dataset.from_dict({"row": list(range(len(rows)))}),
        processing_class=tokenizer,
        callbacks=[watch],
    )
    for name, parameter in model.named_parameters():
        if name in weights:  # TRL casts adapters on a 4-bit base to bfloat16; we keep them in float32
            parameter.data = weights[name]
    trainer.remove_callback(PrinterCallback)
    trainer.watch = watch
    return trainer


def run(
    session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], reference: Scores
) -> tuple[Watch, dict[str, Any]]:
    """Train `model`'s adapter in place; return the watch and what the report says of the training."""
    trainer, watch = train(session, lambda w: build(session, model, tokenizer, rows, w), model)
    return watch, {"steps": trainer.state.global_step, "epochs": trainer.state.epoch}
