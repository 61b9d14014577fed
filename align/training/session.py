"""What one run holds while it trains in one process, whatever its method."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from align.errors import OutOfMemory, Stopped
from align.progress import ProgressLog, StopSwitch
from align.recipe.recipe import Recipe
from align.run_directory import RunDirectory, RunSpec
from align.training.distributed.process_group import ProcessGroup
from align.training.memory.running_out import HINT_TRAINING
from align.training.model import Hardware


@dataclass
class Session:
    """One run in one process. `micro_batch` and `accumulation` begin as the recipe's and change when memory runs out.

    `recomputed` is the number of layers, from the first, whose activations are recomputed; None: all or none, as `hardware`
    says. `padded` says that the model computes padded rows. `out_of_memory` counts how often memory ran out.
    """

    run: RunDirectory
    spec: RunSpec
    recipe: Recipe
    hardware: Hardware
    log: ProgressLog
    stop: StopSwitch
    micro_batch: int = 0
    accumulation: int = 0
    notes: list[str] = field(default_factory=list)
    group: ProcessGroup = field(default_factory=ProcessGroup)
    recomputed: int | None = None
    padded: bool = False
    out_of_memory: int = 0

    def __post_init__(self) -> None:
        self.micro_batch = self.micro_batch or self.recipe.per_device_train_batch_size
        self.accumulation = self.accumulation or self.recipe.gradient_accumulation_steps

    def note(self, message: str) -> None:
        """Record a message in the report and in the progress."""
        self.notes.append(message)
        self.log.note(message)

    @property
    def sharded(self) -> bool:
        """Whether each process holds a shard of the model (FSDP)."""
        return self.group.is_distributed and bool(self.recipe.distributed == "fsdp")

    def check_stop(self) -> None:
        """Raise `Stopped` if any process was asked to stop: all of them raise it at the same point."""
        if self.group.any(self.stop.requested):
            raise Stopped("asked to stop")

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the recipe's type; in float32 nothing is cast.

        Without a cache: autocast's would hold a second copy of every adapter weight until the step's end.
        """
        if self.hardware.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.hardware.device, dtype=self.hardware.dtype, cache_enabled=False)

    def need_less_memory(self, why: str) -> None:
        """Recompute every layer's activations, or where that is done halve the micro-batch. Raises `OutOfMemory`."""
        if self.recomputed is None:
            self.halve_micro_batch(why)
            return
        self.out_of_memory += 1
        self.recomputed = None
        self.note("out of memory: going on with the activations of all layers recomputed")

    def halve_micro_batch(self, why: str) -> None:
        """Halve the micro-batch and double the accumulation. Raises `OutOfMemory` when the micro-batch is one row."""
        self.out_of_memory += 1
        if self.micro_batch == 1:
            raise OutOfMemory(f"one row does not fit ({why})", HINT_TRAINING)
        self.accumulation *= 2 if self.micro_batch % 2 == 0 else self.micro_batch
        self.micro_batch = self.micro_batch // 2 if self.micro_batch % 2 == 0 else 1
        self.note(f"out of memory: going on with {self.micro_batch} rows x {self.accumulation} accumulated")
