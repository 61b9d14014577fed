"""The process group of a run that several processes train together.

Started by `align.training.distributed.launcher`, by `accelerate launch -m align.worker RUN_DIR`, or by torchrun: all of
them set RANK and WORLD_SIZE. The main process (rank 0) alone writes; the others compute. In a single process every call
here returns at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ProcessGroup:
    """`size` processes, of which this is number `rank`. Every process must call each method, in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are several processes."""
        return self.size > 1

    @property
    def is_initialized(self) -> bool:
        """Whether this process has joined the group and not left it."""
        dist = sys.modules.get("torch.distributed")
        return self.is_distributed and dist is not None and bool(dist.is_initialized())

    def join(self) -> None:
        """Initialize the group: gloo on the CPU, NCCL on CUDA. Raises what torch.distributed raises on a timeout."""
        if self.is_distributed:
            import torch
            from accelerate import PartialState

            PartialState(cpu=not torch.cuda.is_available())

    def shut_down(self) -> None:
        """Destroy the process group: its threads can abort the interpreter's exit.

        A failure is printed on stderr only, since the run has succeeded by then.
        """
        if self.is_distributed:
            import torch.distributed as dist

            try:
                dist.destroy_process_group()
            except Exception as error:
                print(f"worker: cannot destroy the process group: {error}", file=sys.stderr)

    def barrier(self) -> None:
        """Return once every process has called this."""
        if self.is_distributed:
            import torch.distributed as dist

            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process."""
        if not self.is_distributed:
            return flag
        import torch

        return bool(self.sum(torch.tensor([float(flag)])).item() > 0)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of each value over the processes (same shape and type, on the CPU)."""
        if not self.is_distributed:
            return values
        import torch.distributed as dist
        from accelerate import PartialState

        total = values.detach().to(PartialState().device, copy=True)
        dist.all_reduce(total)
        return total.cpu()

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of each value over the processes."""
        return self.sum(values) / self.size

    def gather(self, mine: Sequence[Any]) -> list[Any]:
        """Return the items of every process, in the order of their ranks."""
        if not self.is_distributed:
            return list(mine)
        import torch.distributed as dist

        parts: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, list(mine))
        return [item for part in parts for item in part]


def process_group() -> ProcessGroup:
    """Return the group that the environment assigns to this process."""
    return ProcessGroup(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
