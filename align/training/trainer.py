"""The training loop that every method shares, and the trainer that they extend: resume, stop, smaller micro-batches.

A trainer is transformers' own `Trainer` with a loss on packed rows: nothing of TRL's trainers is used (DPO and SFT take
the same steps as TRL 1.16's, see tests/align/training/test_equal_trl.py).
"""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PrinterCallback
from transformers.trainer_utils import set_seed

from align.errors import DiskFull, OutOfMemory, Stopped
from align.training.arguments import training_arguments
from align.training.callbacks import Watch, diverged
from align.training.checkpoints import CheckpointTrainer, clean_checkpoints, restore_random_state
from align.training.memory.running_out import HINT_TRAINING, ran_out, release
from align.training.session import Session
from align.training.texts.data import Row


class PackedTrainer(CheckpointTrainer):
    """Trains on packed rows; a method defines `compute_loss`. `collated` turns row numbers into a micro-batch."""

    loss_is_scaled_for_ga = False  # divide a micro-batch's mean by the number of micro-batches

    def __init__(
        self, session: Session, watch: Watch, model: PeftModel, tokenizer: Any, rows: int, collated: Any
    ) -> None:
        self.session, self.watch = session, watch
        self.row_metrics: defaultdict[str, list[float]] = defaultdict(list)
        super().__init__(
            model=model,
            args=training_arguments(session),
            data_collator=collated,
            train_dataset=Dataset.from_dict({"row": list(range(rows))}),
            processing_class=tokenizer,
            callbacks=[watch],
        )
        self.remove_callback(PrinterCallback)

    def finite(self, loss: Tensor) -> Tensor:
        """Return `loss`. Raises `Diverged` when it is not finite."""
        if not bool(torch.isfinite(loss)):
            raise diverged(f"the loss is {loss.item()} at step {self.state.global_step + 1}")
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of `row_metrics` since the last row of metrics."""
        logs.update({name: sum(values) / len(values) for name, values in self.row_metrics.items() if values})
        self.row_metrics.clear()
        super().log(logs, start_time)


@dataclass(frozen=True)
class Trained:
    """What the training loop leaves behind."""

    watch: Watch
    steps: int
    epochs: float


def train(session: Session, build: Callable[[Watch], PackedTrainer], model: torch.nn.Module) -> Trained:
    """Train from the newest complete checkpoint to the end.

    `build` makes a trainer for the session's present micro-batch. When memory runs out the micro-batch is halved and
    training resumes from the last checkpoint. Raises `Stopped` (a checkpoint was saved), `Diverged`, `OutOfMemory`,
    `DiskFull`.
    """
    initial = {n: p.detach().cpu().clone() for n, p in model.named_parameters() if p.requires_grad}
    while True:
        watch = Watch(session)
        checkpoint = _newest_checkpoint(session)
        set_seed(session.recipe.seed)
        trainer = build(watch)
        why = _run_to_end(session, trainer, checkpoint)
        if why is None:
            session.stop.busy = False
            session.check_stop()
            return Trained(watch, trainer.state.global_step, trainer.state.epoch)
        del trainer
        if session.group.is_distributed:
            raise OutOfMemory(f"{session.micro_batch} rows per process do not fit ({why})", HINT_TRAINING)
        session.need_less_memory(why)
        _restore(model, initial)


def _newest_checkpoint(session: Session) -> str | None:
    session.group.barrier()
    if session.group.is_main:
        clean_checkpoints(session.run)
    session.group.barrier()
    checkpoints = session.run.checkpoints()
    if not checkpoints:
        return None
    session.note(f"resuming from {checkpoints[-1].name}")
    return str(checkpoints[-1])


def _run_to_end(session: Session, trainer: PackedTrainer, checkpoint: str | None) -> str | None:
    """Run the trainer; return None, or why memory ran out. The failed step's tensors are free on return."""
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except Stopped:
        session.stop.busy = True
        if trainer.watch.rng is not None and trainer.state.global_step:
            restore_random_state(trainer.watch.rng)
            trainer.save_state_now(session.group)
        raise
    except (MemoryError, RuntimeError) as error:
        if (why := ran_out(error)) is None:
            raise
        return why
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(str(error), "free some space; the run resumes from its last checkpoint") from error
        raise
    return None


def _restore(model: torch.nn.Module, initial: dict[str, Tensor]) -> None:
    """Set the trainable weights back to `initial`, and free what the failed step held."""
    for name, parameter in model.named_parameters():
        if name in initial:
            parameter.data.copy_(initial[name])
            parameter.grad = None
    release()


def normalized_weights(rows: Sequence[Row]) -> Tensor:
    """Return the rows' weights scaled to a mean of one (rows)."""
    weights = torch.tensor([row.weight for row in rows], dtype=torch.float32)
    return weights / weights.mean()
