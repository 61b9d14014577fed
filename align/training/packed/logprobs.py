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

CPU_CHUNK = 128
CUDA_CHUNK = 512


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
        wants_gradient = ctx.needs_input_grad[0]
        out = torch.empty(targets.numel(), dtype=torch.float32, device=hidden.device)
        slope = torch.empty_like(hidden) if wants_gradient else None
        for start in range(0, targets.numel(), size):
            rows = slice(start, start + size)
            logits = torch.nn.functional.linear(hidden[rows].to(weight.dtype), weight, bias).float()
            label = targets[rows, None]
            picked = logits.gather(1, label).squeeze(1)
            normalizer = torch.logsumexp(logits, dim=1)
            out[rows] = picked - normalizer
            if slope is not None:
                probabilities = logits.sub_(normalizer[:, None]).exp_().to(weight.dtype)
                slope[rows] = (weight[targets[rows]] - probabilities @ weight).to(slope.dtype)
        if slope is not None:
            ctx.save_for_backward(slope)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * upstream[0][:, None].to(slope.dtype), None, None, None, None
