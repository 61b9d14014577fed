"""KTO (2402.01306): likes and dislikes of single answers, with a LoRA adapter, on transformers' `Trainer`.

An answer is pulled up when it was liked and down when it was not, relative to a reference point: how far the
policy has moved from the reference on answers that do not belong to their prompts. As in TRL's `KTOTrainer`
that point is the mean log ratio of mismatched rows, at least zero and without a gradient; here row i's
prompt meets row i - 1's answer, for the whole data set rather than within a batch, so that the reference of
those rows is known beforehand too. Rows are packed (`align.training.packed.packing`); a row's own and its mismatched answer
share their prompt.

A crash loses the steps since the last checkpoint. Not covered: TRL's `apo_zero_unpaired`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainingArguments

from align.training.data import Row
from align.training.packed.packing import Pack, Tree, pack
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


class LikeTrainer(CheckpointMixin, Trainer):
    """transformers' `Trainer` with KTO's loss on packed rows whose reference is known."""

    watch: Watch
    loss_is_scaled_for_ga = False
    metrics: defaultdict[str, list[float]]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Return the mean weighted loss of the micro-batch's rows."""
        recipe = self.watch.session.recipe
        batch: Pack = inputs["pack"]
        other: Pack = inputs["mismatched"]
        with self.watch.session.autocast():
            with torch.no_grad():
                moved = other.sum_by_answer(model(pack=other)) - inputs["mismatched_reference"]
            logps = batch.sum_by_answer(model(pack=batch))
        ratios = logps - inputs["reference"]
        point = self.watch.session.crew.mean(moved.mean()).to(moved.device).clamp(min=0)
        desirable = inputs["desirable"]
        sides = torch.where(desirable, recipe.desirable_weight, recipe.undesirable_weight)
        loss = (kto_losses(ratios, point, desirable, recipe.beta) * sides * inputs["weight"]).mean()
        if not bool(torch.isfinite(loss)):
            raise diverged(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        rewards = recipe.beta * ratios.detach()
        self.metrics["kl"].append(point.item())
        means = {}
        for name, chosen in (("rewards/chosen", desirable), ("rewards/rejected", ~desirable)):
            if bool(chosen.any()):
                means[name] = rewards[chosen].mean().item()
        if len(means) == 2:
            means["rewards/margins"] = means["rewards/chosen"] - means["rewards/rejected"]
        means["rewards/accuracies"] = ((rewards > 0) == desirable).float().mean().item()
        for name, value in means.items():
            self.metrics[name].append(value)
        self.watch.count(ratios.numel(), inputs["tokens"])
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of our metrics since the last row."""
        logs.update({name: sum(values) / len(values) for name, values in self.metrics.items() if values})
        self.metrics.clear()
        super().log(logs, start_time)


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
    """Make the trainer for the session's present micro-batch; `reference` holds the rows', then the
    mismatched rows'."""
    common = arguments(session)
    for name in ("disable_dropout", "max_length"):
        common.pop(name)
    trainer = LikeTrainer(
        model=model,
        args=TrainingArguments(**common),
        data_collator=LikeCollator(
            rows, reference[: len(rows)], reference[len(rows) :], normalized_weights(rows)
        ),
        train_dataset=Dataset.from_dict({"row": list(range(len(rows)))}),
        processing_class=tokenizer,
        callbacks=[watch],
    )
    trainer.metrics = defaultdict(list)
    trainer.watch = watch
    trainer.remove_callback(PrinterCallback)
    return trainer


def run(
    session: Session, model: PeftModel, tokenizer: Any, rows: list[Row], reference: Scores
) -> tuple[Watch, dict[str, Any]]:
    """Train `model`'s adapter in place; return the watch and what the report says of the training."""
    trainer, watch = train(session, lambda w: build(session, model, tokenizer, rows, reference, w), model)
    return watch, {"steps": trainer.state.global_step, "epochs": trainer.state.epoch}
