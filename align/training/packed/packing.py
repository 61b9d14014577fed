"""Rows of a micro-batch as one sequence without padding, in which a prompt is computed once for all its
answers.

A *tree* is a prompt and the answers that follow it: two for a preference pair, one for a demonstration.
Trees are placed one after another on a single axis of T tokens:

```
prompt 0 | chosen 0 | rejected 0 | prompt 1 | chosen 1 | rejected 1 | ...
```

Every answer sees its own prompt and itself, nothing else, and its positions continue the prompt's. Sharing
the prompt follows "Accelerating Direct Preference Optimization with Prefix Sharing" (arXiv 2410.20305); here
each tree is attended on its own, so there is no mask over the whole axis and no arithmetic on padding.

This module is about tokens; attention over them is in `align.training.packed.attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Tree:
    """Token ids of one prompt and of the answers that follow it. No part may be empty.

    `counted` says of each answer which tokens count: all where it is None for the tree or for an answer. The others
    are read and not learned: the turns of other people within an answer of several turns.
    """

    prompt: Sequence[int]
    answers: tuple[Sequence[int], ...]
    counted: tuple[Sequence[bool] | None, ...] | None = None

    @property
    def lengths(self) -> list[int]:
        """How many tokens of each answer count."""
        masks = self.counted or (None,) * len(self.answers)
        return [len(a) if m is None else sum(m) for a, m in zip(self.answers, masks, strict=True)]


@dataclass
class Layout:
    """Where the trees are: for each, its first token, the prompt's length and the answers' lengths."""

    trees: list[tuple[int, int, tuple[int, ...]]]
    cache: dict[Any, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        """Lengths of the parts in order; a prompt with a single answer is one part with it."""
        return [n for _, p, a in self.trees for n in ([p + a[0]] if len(a) == 1 else [p, *a])]


@dataclass
class Pack:
    """A packed micro-batch. T tokens, S answers (in the order of the trees), N answer tokens that count.

    `input_ids` and `position_ids` are (1, T). For each token that counts: `sources` (N) is the place whose hidden
    state predicts it, `targets` (N) its id, `answer` (N) the number of its answer. `lengths` (S) counts
    them. `counted` says of each token of the answers whether it counts.
    """

    input_ids: Tensor
    position_ids: Tensor
    sources: Tensor
    targets: Tensor
    answer: Tensor
    lengths: Tensor
    counted: Tensor
    layout: Layout

    def to(self, device: torch.device | str, **kwargs: Any) -> Pack:
        """Return the pack on `device`."""
        names = ("input_ids", "position_ids", "sources", "targets", "answer", "lengths", "counted")
        return Pack(**{n: getattr(self, n).to(device, **kwargs) for n in names}, layout=self.layout)

    def sum_by_answer(self, values: Tensor) -> Tensor:
        """Sum per-token values into per-answer totals: (N,) -> (S,), in float32."""
        out = torch.zeros(self.lengths.numel(), dtype=torch.float32, device=values.device)
        return out.index_add(0, self.answer, values.float())


def pack(trees: Sequence[Tree], share: bool = True) -> Pack:
    """Lay out `trees` on one axis. Without `share`, each answer gets a copy of its prompt (same result, more
    work).

    Raises `ValueError` when a prompt or an answer is empty.
    """
    ids: list[int] = []
    positions: list[range] = []
    sources: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    lengths: list[int] = []
    counted: list[np.ndarray] = []
    spans: list[tuple[int, int, tuple[int, ...]]] = []
    for tree in trees:
        if not tree.prompt or not tree.answers or not all(tree.answers):
            raise ValueError("a tree needs a prompt and answers, none of them empty")
        masks = tree.counted or (None,) * len(tree.answers)
        answers = list(zip(tree.answers, masks, strict=True))
        groups = [answers] if share else [[answer] for answer in answers]
        for group in groups:
            start, prompt = len(ids), len(tree.prompt)
            spans.append((start, prompt, tuple(len(answer) for answer, _ in group)))
            ids.extend(tree.prompt)
            positions.append(range(prompt))
            for answer, mask in group:
                first = len(ids)
                ids.extend(answer)
                positions.append(range(prompt, prompt + len(answer)))
                chosen = np.ones(len(answer), bool) if mask is None else np.asarray(mask, bool)
                # The prompt's last token predicts an answer's first; then each token predicts the next.
                before = np.arange(first - 1, first + len(answer) - 1)
                before[0] = start + prompt - 1
                sources.append(before[chosen])
                targets.append(np.asarray(answer)[chosen])
                counted.append(chosen)
                lengths.append(int(chosen.sum()))
    return Pack(
        torch.from_numpy(np.array(ids))[None],
        torch.from_numpy(np.concatenate(positions))[None],
        torch.from_numpy(np.concatenate(sources)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)),
        torch.tensor(lengths),
        torch.from_numpy(np.concatenate(counted)),
        Layout(spans),
    )
