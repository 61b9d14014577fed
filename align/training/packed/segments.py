"""A packed axis as sequences of different lengths for one call of a variable-length attention kernel.

Queries stay in packed order. Keys and values are laid out once more for each answer, so that an answer's sequence is its
prompt followed by itself:

```
queries  prompt 0 | chosen 0            | rejected 0            | prompt 1 ...
keys     prompt 0 | prompt 0 + chosen 0 | prompt 0 + rejected 0 | prompt 1 ...
```

Causal attention is aligned at the sequences' ends: the last query sees every key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.training.packed.packing import Layout


@dataclass(frozen=True)
class Segments:
    """Sequences of a packed axis of T tokens.

    `queries_from` and `keys_from` (N + 1) are the cumulative lengths; `places` (K) the packed token of each key.
    `first` (T) is the key of each token in its own part, and each of `repeats` holds tokens that are laid out again, none
    of them twice, with the keys they have there.
    """

    queries_from: Tensor
    keys_from: Tensor
    longest_queries: int
    longest_keys: int
    places: Tensor
    first: Tensor
    repeats: tuple[tuple[Tensor, Tensor], ...]


def segments_of(layout: Layout, device: torch.device) -> Segments:
    """Return the layout's sequences on `device`, made once for each layout."""
    key = ("segments", device)
    if key not in layout.cache:
        layout.cache[key] = _segments(layout, device)
    found: Segments = layout.cache[key]
    return found


def _segments(layout: Layout, device: torch.device) -> Segments:
    queries: list[int] = []
    keys: list[int] = []
    places: list[np.ndarray] = []
    first: np.ndarray = np.empty(sum(layout.sizes), np.int64)
    repeats: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    at = 0
    for start, prompt, answers in layout.trees:
        own = prompt + answers[0] if len(answers) == 1 else prompt
        own_places = np.arange(start, start + own)
        first[own_places] = np.arange(at, at + own)
        places.append(own_places)
        queries.append(own)
        keys.append(own)
        at += own
        begin = start + prompt
        for number, length in enumerate(answers if len(answers) > 1 else ()):
            repeats.setdefault(number, []).append((own_places, np.arange(at, at + prompt)))
            first[begin : begin + length] = np.arange(at + prompt, at + prompt + length)
            places.append(np.concatenate([own_places, np.arange(begin, begin + length)]))
            queries.append(length)
            keys.append(prompt + length)
            at += prompt + length
            begin += length
    return Segments(
        _cumulative(queries, device),
        _cumulative(keys, device),
        max(queries),
        max(keys),
        torch.from_numpy(np.concatenate(places)).to(device),
        torch.from_numpy(first).to(device),
        tuple(
            (_joined([tokens for tokens, _ in parts], device), _joined([at for _, at in parts], device))
            for parts in repeats.values()
        ),
    )


def _cumulative(lengths: list[int], device: torch.device) -> Tensor:
    return torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32)).to(device)


def _joined(parts: list[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)).to(device)


def lay_out(tensor: Tensor, segments: Segments) -> Tensor:
    """Return the rows of `tensor` (T, ...) that `segments.places` names (K, ...)."""
    result: Tensor = _LaidOut.apply(tensor, segments)
    return result


class _LaidOut(torch.autograd.Function):
    """`index_select` whose gradient adds in a fixed order and never two rows to one at a time, unlike `index_add`."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return tensor.index_select(0, segments.places)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = upstream
        total = gradient.index_select(0, ctx.segments.first)
        for tokens, keys in ctx.segments.repeats:
            total.index_add_(0, tokens, gradient.index_select(0, keys))
        return total, None
