"""A linear layer with its LoRA adapter as one operation.

PEFT computes W x, then scale * B A x, then their sum: each a tensor of the layer's output. Here B A x is added into W x by
the product itself, the backward pass does likewise for the input's gradient, and what is kept for it is the input, which
layers with the same input share, and A x.

Knows torch, PEFT's layers and bitsandbytes' 4-bit weights; knows no model and no loss.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn


def fuse_lora(model: nn.Module) -> int:
    """Replace the forward pass of `model`'s LoRA layers, in place; return how many were replaced.

    Left as they are: layers with dropout, a bias or a magnitude in the adapter, several adapters, or another base layer than
    a linear one of floats or 4 bits.
    """
    count = 0
    for module in model.modules():
        if isinstance(module, LoraLayer) and _is_plain(module):
            module.forward = types.MethodType(_forward, module)
            count += 1
    return count


def _is_plain(layer: Any) -> bool:
    if type(layer.get_base_layer()) not in (nn.Linear, Linear4bit) or len(layer.lora_A) != 1:
        return False
    (name,) = layer.lora_A
    return (
        layer.active_adapters == [name]
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and layer.lora_B[name].bias is None
        and not layer.lora_variant
        and not getattr(layer, "fan_in_fan_out", False)
    )


def _forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if self.disable_adapters or self.merged or args or kwargs:
        original: Tensor = type(self).forward(self, x, *args, **kwargs)
        return original
    base = self.get_base_layer()
    (name,) = self.lora_A
    result: Tensor = _LoraLinear.apply(
        x,
        self.lora_A[name].weight,
        self.lora_B[name].weight,
        self.scaling[name],
        base.weight,
        base.bias,
        _compute_type(x, base),
    )
    return result


def _compute_type(x: Tensor, base: nn.Module) -> torch.dtype:
    """Return the type that the base layer computes in for `x`."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return getattr(base, "compute_dtype", None) or x.dtype


def _dense(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight as floats of `dtype`, whether it is kept in 4 bits or not."""
    state = getattr(weight, "quant_state", None)
    return (weight if state is None else dequantize_4bit(weight.data, state)).to(dtype)


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        scale: float,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            rows = x.flatten(0, -2).to(dtype)
            out = nn.functional.linear(rows, _dense(weight, dtype), None if bias is None else bias.to(dtype))
            near, far = a.to(dtype), b.to(dtype)
            inner = rows @ near.T
            out.addmm_(inner, far.T, alpha=scale)
        ctx.save_for_backward(rows, inner, near, far)
        # Not saved as a tensor: a frozen 4-bit weight carries its scales as an attribute.
        ctx.weight, ctx.scale, ctx.shape, ctx.dtype, ctx.adapter_dtype = (
            weight,
            scale,
            x.shape,
            x.dtype,
            a.dtype,
        )
        return out.view(*x.shape[:-1], out.shape[-1]).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        rows, inner, near, far = ctx.saved_tensors
        gradient = upstream[0].flatten(0, -2).to(rows.dtype)
        # With beta = 0 the first argument gives the shape alone: a product and its scale in one operation.
        through_b = torch.addmm(inner, gradient, far, beta=0, alpha=ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = gradient @ _dense(ctx.weight, rows.dtype)
            to_x = to_x.addmm_(through_b, near).view(ctx.shape).to(ctx.dtype)
        to_a = (through_b.T @ rows).to(ctx.adapter_dtype)
        to_b = torch.addmm(far, gradient.T, inner, beta=0, alpha=ctx.scale).to(ctx.adapter_dtype)
        return to_x, to_a, to_b, None, None, None, None
