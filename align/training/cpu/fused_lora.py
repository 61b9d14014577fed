"""LoRA layers on the CPU with fewer passes over memory: the same function as PEFT's, in one autograd step.

PEFT computes base(x) + scale * B(A(x)) as separate operations, each reading and writing an activation of the layer's
width; on a CPU these passes cost about as much as a fifth of the matrix products. Here the low-rank part is added into
the base's output while it is made, and its gradient into the input's gradient. A base in 4 bits is held dequantised
beside it when there is room: the numbers are the same, and dequantising in every pass is what makes QLoRA slow there.

Knows PEFT's layers and nothing of training. Layers that it does not know (dropout, other dtypes) stay PEFT's.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import psutil
import torch
from peft.tuners.lora.bnb import Linear4bit
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

ADAPTER = "default"


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ a.t()
        out = nn.functional.linear(rows, weight, bias)
        out.addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(rows, low, weight, a, b)
        ctx.scale = scale
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, weight, a, b = ctx.saved_tensors
        gradient = upstream[0].reshape(-1, upstream[0].shape[-1])
        for_low = (gradient @ b).mul_(ctx.scale)
        for_b = (gradient.t() @ low).mul_(ctx.scale)
        for_a = for_low.t() @ rows
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = gradient @ weight
            for_x.addmm_(for_low, a)
            for_x = for_x.view(*upstream[0].shape[:-1], for_x.shape[-1])
        return for_x, None, None, for_a, for_b, None


def fuse(model: nn.Module) -> int:
    """Patch every LoRA layer of `model` that can be computed in one step; return how many.

    Only for float32 on the CPU, without dropout. Call it after the adapter is on the model.
    """
    layers = [m for m in model.modules() if isinstance(m, Linear | Linear4bit) and _plain(m)]
    room = _room(layers)
    count = 0
    for layer in layers:
        weight = _weight(layer, room)
        if weight is None:
            continue
        forward = functools.partial(_forward, type(layer).forward)
        layer.forward = types.MethodType(_bind(forward, weight), layer)
        count += 1
    return count


def _bind(forward: Any, weight: Tensor) -> Any:
    def bound(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = forward(self, weight, x, *args, **kwargs)
        return result

    return bound


def _forward(original: Any, layer: Any, weight: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    if args or kwargs or layer.merged or layer.active_adapters != [ADAPTER]:
        return original(layer, x, *args, **kwargs)
    bias = layer.base_layer.bias
    if layer.disable_adapters:
        return nn.functional.linear(x, weight, bias)
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    return _LoraLinear.apply(x, weight, bias, a, b, layer.scaling[ADAPTER])


def _plain(layer: Any) -> bool:
    return (
        ADAPTER in layer.lora_A
        and isinstance(layer.lora_dropout[ADAPTER], nn.Identity)
        and not layer.use_dora.get(ADAPTER, False)
        and not layer.lora_bias.get(ADAPTER, False)
        and layer.lora_A[ADAPTER].weight.dtype is torch.float32
        and layer.lora_A[ADAPTER].weight.device.type == "cpu"
    )


def _room(layers: list[Any]) -> bool:
    """Say whether all 4-bit layers fit dequantised into a third of the memory that is free."""
    needed = sum(4 * m.in_features * m.out_features for m in layers if isinstance(m, Linear4bit))
    return bool(needed < psutil.virtual_memory().available / 3)


def _weight(layer: Any, room: bool) -> Tensor | None:
    weight = layer.base_layer.weight
    if isinstance(layer, Linear4bit):
        if not room:
            return None
        from bitsandbytes.functional import dequantize_4bit

        weight = dequantize_4bit(weight.data, weight.quant_state)
    if weight.dtype is not torch.float32 or weight.requires_grad:
        return None
    return weight
