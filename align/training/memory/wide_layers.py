"""Compute a model in float32 that is held in a smaller type, each layer's weights converted only while it computes.

Converting the whole model takes twice the memory of a bfloat16 base, which is what a card beside an engine lacks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def computed_in_float32(model: torch.nn.Module) -> Iterator[None]:
    """Have every module of `model` compute with float32 copies of its own weights until the block ends."""
    handles: list[Any] = []
    try:
        for module in model.modules():
            if _narrow(module):
                layer = _WideLayer()
                handles.append(module.register_forward_pre_hook(layer.widen))
                handles.append(module.register_forward_hook(layer.restore, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _WideLayer:
    """The hooks of one module; between them it holds the weights as they were."""

    def __init__(self) -> None:
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []

    def widen(self, module: torch.nn.Module, _: Any) -> None:
        """Replace the module's own weights by float32 copies."""
        for tensor in _narrow(module):
            self._held.append((tensor, tensor.data))
            tensor.data = tensor.data.float()

    def restore(self, *_: Any) -> None:
        """Put the weights back."""
        for tensor, data in self._held:
            tensor.data = data
        self._held.clear()


def _narrow(module: torch.nn.Module) -> list[torch.Tensor]:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [tensor for tensor in own if tensor.is_floating_point() and tensor.dtype != torch.float32]
