"""LoRA on the CPU, one matrix product an adapter; takes the place of vLLM's PyTorch kernels inside the engine.

Those gather a copy of an adapter's weights for each token of a batch, and do so for tokens without an adapter too. Here the
rows of a batch are sorted by adapter once a step, and each layer multiplies each adapter's rows by its weights where they
lie; rows without an adapter cost nothing and stay as they are. The idea is that of Punica's SGMV (arXiv 2310.18547).

Only for layers that run eagerly, as all do on the CPU where LoRA is enabled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

if TYPE_CHECKING:
    import torch


class GroupedPunica(PunicaWrapperCPU):  # type: ignore[misc]
    """vLLM's wrapper for the CPU, with the linear layers' part computed by adapter."""

    groups: Sequence[tuple[int, slice]] = ()  # until the first batch, such as in a warm-up
    order: torch.Tensor | None = None

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Take up the next batch's adapters; see vLLM."""
        super().update_metadata(*args, **kwargs)
        self.groups, self.order = grouped(self.token_lora_indices.tolist())

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **kwargs: Any,
    ) -> None:
        """Add to `y` (tokens x outputs, in place) what the adapters make of `x` (tokens x inputs).

        The weights are stacked by slot, one pair of stacks for each of the `output_slices` side by side in `y`.
        """
        if not self.groups:
            return
        y = y[:, : sum(output_slices)]
        if self.order is None:
            target = y
        else:
            x = x[self.order]
            target = y.new_zeros(x.shape[0], y.shape[1])
        for slot, rows in self.groups:
            mine, left = x[rows], 0
            for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                down = mine @ a[slot, 0].T
                target[rows, left : left + width].addmm_(down, b[slot, 0].T, alpha=scale)
                left += width
        if self.order is not None:
            y.index_add_(0, self.order, target)


def grouped(slots: Sequence[int]) -> tuple[list[tuple[int, slice]], torch.Tensor | None]:
    """Return each slot in use with its rows, and the order to put the batch's rows in first (None: as they are).

    `slots` has each row's slot, -1 for none.
    """
    import torch

    rows: dict[int, list[int]] = {}
    for row, slot in enumerate(slots):
        if slot >= 0:
            rows.setdefault(slot, []).append(row)
    if all(mine[-1] - mine[0] < len(mine) for mine in rows.values()):
        return [(slot, slice(mine[0], mine[-1] + 1)) for slot, mine in rows.items()], None
    groups: list[tuple[int, slice]] = []
    order: list[int] = []
    for slot, mine in rows.items():
        groups.append((slot, slice(len(order), len(order) + len(mine))))
        order += mine
    return groups, torch.tensor(order)
