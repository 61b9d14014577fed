"""A packed axis as two padded batches, prompts and answers: for GPUs whose attention kernels take only batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from align.training.packed.packing import Layout


@dataclass(frozen=True)
class Grid:
    """Places on the packed axis as padded batches.

    `prompts` (B, P) and `answers` (S, A) hold places, padded with 0; `owners` (S) the prompt of each answer; `mask`
    (S, 1, A, P + A) what an answer's tokens attend to; `order` (T) the place of each packed token in the flattened prompts
    followed by the flattened answers. `answers`, `owners` and `mask` are None when every prompt has one answer.
    """

    prompts: Tensor
    answers: Tensor | None
    owners: Tensor | None
    mask: Tensor | None
    order: Tensor


def grid_of(layout: Layout, device: torch.device) -> Grid:
    """Return the layout as padded batches on `device`, made once for each layout."""
    key = ("grid", device)
    if key not in layout.cache:
        layout.cache[key] = _grid(layout.trees, device)
    found: Grid = layout.cache[key]
    return found


def _grid(trees: list[tuple[int, int, tuple[int, ...]]], device: torch.device) -> Grid:
    prompts: list[range] = []
    answers: list[range] = []
    owners: list[int] = []
    for start, prompt, lengths in trees:
        if len(lengths) == 1:
            prompts.append(range(start, start + prompt + lengths[0]))
            continue
        prompts.append(range(start, start + prompt))
        first = start + prompt
        for length in lengths:
            owners.append(len(prompts) - 1)
            answers.append(range(first, first + length))
            first += length
    wide = max(map(len, prompts))
    tall = max(map(len, answers), default=0)
    order = torch.empty(sum(map(len, prompts)) + sum(map(len, answers)), dtype=torch.long)
    for i, part in enumerate(prompts):
        order[part.start : part.stop] = torch.arange(len(part)) + i * wide
    for i, part in enumerate(answers):
        order[part.start : part.stop] = torch.arange(len(part)) + len(prompts) * wide + i * tall
    if not answers:
        return Grid(_padded(prompts, wide).to(device), None, None, None, order.to(device))
    seen = torch.tensor([len(prompts[owner]) for owner in owners])
    mask = torch.zeros(len(answers), 1, tall, wide + tall, dtype=torch.bool)
    mask[:, 0, :, :wide] = (torch.arange(wide) < seen[:, None])[:, None, :]
    mask[:, 0, :, wide:] = torch.ones(tall, tall, dtype=torch.bool).tril()
    places = (_padded(prompts, wide), _padded(answers, tall), torch.tensor(owners), mask, order)
    return Grid(*(tensor.to(device) for tensor in places))


def _padded(parts: list[range], width: int) -> Tensor:
    return torch.tensor([[*part, *[0] * (width - len(part))] for part in parts])
