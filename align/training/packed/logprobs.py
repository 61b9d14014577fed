"""Log-probabilities of given tokens, without ever holding the logits of more than a few tokens.

The gradient of a token's log-probability with respect to its hidden state h is, for head W and softmax p,
W[target] - p W, whatever comes after; only its scale comes from the loss. So it is computed in the forward
pass, while the logits of a chunk are at hand, and the backward pass is one product by one number per token: no
logits are kept and none are computed twice. The head itself is frozen (LoRA), so it needs no gradient.

This module works on tensors only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from align.recipe.activations import LOGIT_ROWS

CPU_CHUNK = 128
CUDA_CHUNK = LOGIT_ROWS


def token_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, chunk: int | None = None
) -> Tensor:
    """Return log p(target | hidden) for each of N tokens, in float32 (N).

    `hidden` is (N, H), `weight` (V, H), `targets` (N), `bias` (V) or None. At most `chunk` rows of logits
    exist at a time. Only `hidden` gets a gradient. Raises `ValueError` when weight or bias want one.
    """
    if torch.is_grad_enabled() and (weight.requires_grad or (bias is not None and bias.requires_grad)):
        raise ValueError("the head must be frozen: its gradient is not computed here")
    size = chunk or (CPU_CHUNK if hidden.device.type == "cpu" else CUDA_CHUNK)
    result: Tensor = _TokenLogprobs.apply(hidden, weight, targets, bias, size)
    return result


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, size: int
    ) -> Tensor:
        out = torch.empty(targets.numel(), dtype=torch.float32, device=hidden.device)
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, targets.numel(), size):
                rows = slice(start, start + size)
                logps = _logits(hidden[rows].to(weight.dtype), weight, bias).log_softmax(1)
                out[rows] = logps.gather(1, targets[rows, None]).squeeze(1)
                if slope is not None:
                    slope[rows] = weight[targets[rows]] - _probabilities(logps, weight.dtype) @ weight
        if slope is not None:
            ctx.save_for_backward(slope)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * upstream[0][:, None].to(slope.dtype), None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return logits in float32: straight from the product where the device can, which saves a pass over them."""
    if hidden.device.type != "cuda" or hidden.dtype == torch.float32:
        return torch.nn.functional.linear(hidden, weight, bias).float()
    logits = torch.mm(hidden, weight.T, out_dtype=torch.float32)
    return logits if bias is None else logits.add_(bias)


def _probabilities(logps: Tensor, dtype: torch.dtype) -> Tensor:
    """Return exp(`logps`) in `dtype`, in one pass; `logps` may be overwritten."""
    return torch.exp(logps, out=logps if logps.dtype == dtype else torch.empty_like(logps, dtype=dtype))
