"""Attention over a packed axis, in the form that transformers' attention interface wants.

Three ways to compute the same: part by part on the CPU; in one call of a variable-length kernel on GPUs that have it; in
two padded batches on other GPUs and in float32.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from align.training.packed.grid import grid_of
from align.training.packed.packing import Layout
from align.training.packed.segments import lay_out, segments_of

ATTENTION = "trimtab_packed"
# FlashAttention's kernels: half precision, head sizes up to 256 in steps of 8, Ampere or newer.
_LARGEST_HEAD, _HEAD_STEP, _CAPABILITY = 256, 8, (8, 0)
# torch 2.11 takes grouped heads without this argument.
_GROUPED = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


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
    """Return the attention of each token to its own prompt and answer.

    `query` is (1, heads, T, d); `key` and `value` (1, kv heads, T, d); returns (1, T, heads, d). Raises
    `RuntimeError` when the model is called without a layout, which would mix the rows.
    """
    if layout is None:
        raise RuntimeError("a packed model was called without a pack")
    if query.device.type == "cpu":
        return attend_by_part(query, key, value, layout, scaling, dropout), None
    if not dropout and has_varlen(query.device, query.dtype, query.shape[-1]):
        return attend_by_segment(query, key, value, layout, scaling), None
    return attend_by_grid(query, key, value, layout, scaling, dropout), None


@functools.lru_cache
def has_varlen(device: torch.device, dtype: torch.dtype, size: int) -> bool:
    """Return whether the device has a variable-length kernel for heads of `size` numbers of `dtype`."""
    return (
        dtype in (torch.bfloat16, torch.float16)
        and size <= _LARGEST_HEAD
        and size % _HEAD_STEP == 0
        and device.type == "cuda"
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= _CAPABILITY
    )


def attend_by_segment(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float | None
) -> Tensor:
    """Attention in one call, nothing padded and no mask: for GPUs with a variable-length kernel."""
    segments = segments_of(layout, query.device)
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, heads, d)
    out: Tensor = varlen_attn(
        q,
        lay_out(k, segments),
        lay_out(v, segments),
        segments.queries_from,
        segments.keys_from,
        segments.longest_queries,
        segments.longest_keys,
        scale=scaling,
        window_size=(-1, 0),
        **_GROUPED,
    )
    return out[None]


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
            mask = _mask(layout, prompt, length, query.device)
            out.append(sdpa(own_q, torch.cat([k, own_k], 2), torch.cat([v, own_v], 2), mask))
    return torch.cat(out, dim=2).transpose(1, 2)


def _mask(layout: Layout, prompt: int, answer: int, device: torch.device) -> Tensor:
    """Return the (answer, prompt + answer) mask of an answer that sees its prompt and its own past."""
    key = (prompt, answer, device)
    if key not in layout.cache:
        ones = torch.ones(answer, prompt + answer, dtype=torch.bool, device=device)
        layout.cache[key] = ones.tril(prompt)
    found: Tensor = layout.cache[key]
    return found


def attend_by_grid(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float | None, dropout: float = 0.0
) -> Tensor:
    """Attention in two padded batches, prompts and answers: for GPUs, where starting an operation is what costs."""
    grid = grid_of(layout, query.device)
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
