"""The callback of every training run: metrics, checkpoints, requests to stop, and losses that diverge."""

from __future__ import annotations

import math
import resource
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from align.errors import Diverged
from align.training.checkpoints import mark_complete, random_state
from align.training.memory.recomputation import recompute_first
from align.training.session import Session

# A loss so many times the median of the first few (at least 1) has exploded and does not recover.
EXPLODED = 100.0
EXPLODE_AFTER = 5


class Watch(TrainerCallback):
    """Reports steps, marks complete checkpoints, and raises `Stopped` only between whole micro-batches or steps."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.rows_seen = 0
        self.tokens_seen = 0
        self.history: list[dict[str, Any]] = []
        self.rng: Any = None
        self._first_losses: list[float] = []
        self._began = 0.0
        self._first = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock, and recompute no more layers than the session says."""
        if self.session.recomputed:
            recompute_first(kwargs["model"], self.session.recomputed)
        self._began = time.monotonic()
        self._first = state.global_step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the random state, so that an interrupted step can be repeated exactly."""
        self.rng = random_state()
        # A process of a group must not leave the others waiting in the middle of a step.
        self.session.stop.busy = self.session.group.is_distributed
        self.session.check_stop()

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raise `Stopped` between two micro-batches if asked to."""
        if self.session.group.is_distributed:
            self.session.check_stop()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Hold back `Stopped` until the next step: weights, optimiser and checkpoint change together."""
        self.session.stop.busy = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save a checkpoint at the end and when asked to stop."""
        requested = self.session.group.any(self.session.stop.requested)
        if state.global_step >= state.max_steps or requested:
            control.should_save = True
        if requested:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint complete."""
        mark_complete(self.session.group, Path(args.output_dir) / f"checkpoint-{state.global_step}")

    @property
    def last_metrics(self) -> dict[str, Any]:
        """The newest row of metrics, empty before the first."""
        return self.history[-1] if self.history else {}

    def count(self, rows: float, tokens: float) -> None:
        """Add the rows and tokens of a micro-batch, of all processes."""
        totals = self.session.group.sum(torch.tensor([rows, tokens], dtype=torch.float64))
        self.rows_seen += int(totals[0])
        self.tokens_seen += int(totals[1])

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write a row of metrics; raise `Diverged` when the loss or the gradient is not finite."""
        logs = dict(logs or {})
        if "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(float(logs.get(name, 0.0))):
                raise diverged(f"{name} is {logs[name]} at step {state.global_step}")
        self._first_losses = [*self._first_losses, float(logs["loss"])][:EXPLODE_AFTER]
        usual = max(1.0, sorted(self._first_losses)[len(self._first_losses) // 2])
        if len(self._first_losses) == EXPLODE_AFTER and logs["loss"] > EXPLODED * usual:
            raise diverged(
                f"the loss is {logs['loss']:.4g} at step {state.global_step}; it began at {usual:.4g}"
            )
        seconds = time.monotonic() - self._began
        steps = max(1, state.global_step - self._first)
        row = {
            "step": state.global_step,
            "total_steps": state.max_steps,
            **{k: float(v) for k, v in logs.items() if isinstance(v, int | float)},
            "tokens_per_second": self.tokens_seen / seconds,
            "rows_per_second": self.rows_seen / seconds,
            "seconds_left": seconds / steps * (state.max_steps - state.global_step),
            "memory_bytes": peak_memory(),
        }
        self.history.append(row)
        self.session.log.write("step", **row)


def diverged(what: str) -> Diverged:
    """Return the error for a training that diverged."""
    return Diverged(what, "lower learning_rate or max_grad_norm; the last good checkpoint is kept")


def peak_memory() -> int:
    """Return the peak memory in bytes: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
