"""The processes that train one run together: which of them this one is, and what they tell each other.

Started by `align.training.distributed.launcher`, by `accelerate launch -m align.worker RUN_DIR`, or by
torchrun: all of them set RANK and
WORLD_SIZE. The first process alone writes; the others compute. Alone, every call here returns at once.
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
class Crew:
    """`size` processes, of which this is number `rank`. Every method must be called by all of them, in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def together(self) -> bool:
        """Whether there are several."""
        return self.size > 1

    @property
    def joined(self) -> bool:
        """Whether this process is in a group with the others now."""
        dist = sys.modules.get("torch.distributed")
        return self.together and dist is not None and bool(dist.is_initialized())

    def join(self) -> None:
        """Meet the others: gloo on the CPU, NCCL on CUDA. Raises as torch.distributed does when they do not come."""
        if self.together:
            import torch
            from accelerate import PartialState

            PartialState(cpu=not torch.cuda.is_available())

    def part(self) -> None:
        """Take leave of the others when all is done: threads of a process group that is still there when the
        interpreter ends can abort it. A group that can not be left is reported on stderr; the run has succeeded by then.
        """
        if self.together:
            import torch.distributed as dist

            try:
                dist.destroy_process_group()
            except Exception as error:
                print(f"worker: the process group was not left in order: {error}", file=sys.stderr)

    def wait(self) -> None:
        """Return once all are here."""
        if self.together:
            import torch.distributed as dist

            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Say whether `flag` is true in any of them."""
        if not self.together:
            return flag
        import torch

        return bool(self.sum(torch.tensor([float(flag)])).item() > 0)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of each value over all of them (same shape and type, on the CPU)."""
        if not self.together:
            return values
        import torch.distributed as dist
        from accelerate import PartialState

        total = values.detach().to(PartialState().device, copy=True)
        dist.all_reduce(total)
        return total.cpu()

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of each value over all of them."""
        return self.sum(values) / self.size

    def gather(self, mine: Sequence[Any]) -> list[Any]:
        """Return everybody's items, those of the first process first."""
        if not self.together:
            return list(mine)
        import torch.distributed as dist

        parts: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, list(mine))
        return [item for part in parts for item in part]


def crew() -> Crew:
    """Return the crew that the environment says this process belongs to."""
    return Crew(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
