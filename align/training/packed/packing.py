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

This module is about tokens and attention, not about losses or trainers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ATTENTION = "trimtab_packed"


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

    def mask(self, prompt: int, answer: int, device: torch.device) -> Tensor:
        """Return the (answer, prompt + answer) mask of an answer that sees its prompt and its own past."""
        key = (prompt, answer, device)
        if key not in self.cache:
            ones = torch.ones(answer, prompt + answer, dtype=torch.bool, device=device)
            self.cache[key] = ones.tril(prompt)
        return self.cache[key]

    def grid(self, device: torch.device) -> Grid:
        """Return the layout as padded batches, for devices where few large operations win."""
        if device not in self.cache:
            self.cache[device] = _grid(self.trees, device)
        return self.cache[device]


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
    positions: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    numbers: list[int] = []
    lengths: list[int] = []
    counted: list[bool] = []
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
            positions.extend(range(prompt))
            for answer, mask in group:
                first = len(ids)
                ids.extend(answer)
                positions.extend(range(prompt, prompt + len(answer)))
                # The prompt's last token predicts an answer's first; then each token predicts the next.
                before = [start + prompt - 1, *range(first, first + len(answer) - 1)]
                length = len(answer) if mask is None else sum(mask)
                sources.extend(before if mask is None else compress(before, mask))
                targets.extend(answer if mask is None else compress(answer, mask))
                counted.extend([True] * len(answer) if mask is None else mask)
                numbers.extend([len(lengths)] * length)
                lengths.append(length)
    return Pack(
        torch.tensor([ids]),
        torch.tensor([positions]),
        torch.tensor(sources),
        torch.tensor(targets),
        torch.tensor(numbers),
        torch.tensor(lengths),
        torch.tensor(counted),
        Layout(spans),
    )


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over a packed axis, in the form that transformers' attention interface wants.

    `query` is (1, heads, T, d); `key` and `value` (1, kv heads, T, d); returns (1, T, heads, d). Raises
    `RuntimeError` when the model is called without a layout, which would mix the rows.
    """
    if layout is None:
        raise RuntimeError("a packed model was called without a pack")
    compute = attend_by_part if query.device.type == "cpu" else attend_by_grid
    return compute(query, key, value, layout, scaling, dropout), None


def attend_by_part(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float | None, dropout: float = 0.0
) -> Tensor:
    """Attention part by part, nothing padded: for the CPU, where an operation costs little to start."""
    # Split once: the gradient of a split is one concatenation, that of a slice a tensor of the whole size.
    parts = iter(zip(*(tensor.split(layout.sizes, dim=2) for tensor in (query, key, value)), strict=True))

    def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=k.shape[1] != q.shape[1],
        )

    out = []
    for _, prompt, answers in layout.trees:
        q, k, v = next(parts)
        out.append(sdpa(q, k, v, None))
        if len(answers) == 1:  # it was one part with its prompt
            continue
        for length in answers:
            own_q, own_k, own_v = next(parts)
            mask = layout.mask(prompt, length, query.device)
            out.append(sdpa(own_q, torch.cat([k, own_k], 2), torch.cat([v, own_v], 2), mask))
    return torch.cat(out, dim=2).transpose(1, 2)


def attend_by_grid(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float | None, dropout: float = 0.0
) -> Tensor:
    """Attention in two padded batches, prompts and answers: for GPUs, where starting an operation is what costs."""
    grid = layout.grid(query.device)
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, heads, d)

    def pick(tensor: Tensor, places: Tensor) -> Tensor:
        rows = tensor.index_select(0, places.flatten())
        return rows.view(*places.shape, *tensor.shape[1:]).transpose(1, 2)  # (rows, heads, places, d)

    pk, pv = pick(k, grid.prompts), pick(v, grid.prompts)
    outs = [
        F.scaled_dot_product_attention(
            pick(q, grid.prompts),
            pk,
            pv,
            is_causal=True,
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=k.shape[1] != q.shape[1],
        )
    ]
    if grid.answers is not None and grid.owners is not None:
        ks = torch.cat([pk.index_select(0, grid.owners), pick(k, grid.answers)], dim=2)
        vs = torch.cat([pv.index_select(0, grid.owners), pick(v, grid.answers)], dim=2)
        groups = q.shape[1] // k.shape[1]
        if groups > 1:  # the fused kernels take a mask or grouped heads, not both
            ks, vs = ks.repeat_interleave(groups, 1), vs.repeat_interleave(groups, 1)
        outs.append(
            F.scaled_dot_product_attention(
                pick(q, grid.answers), ks, vs, attn_mask=grid.mask, dropout_p=dropout, scale=scaling
            )
        )
    flat = torch.cat([out.transpose(1, 2).flatten(0, 1) for out in outs])
    return flat.index_select(0, grid.order)[None]
