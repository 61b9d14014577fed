"""Which layers' activations are recomputed in the backward pass: none as long as they fit.

What a layer keeps is measured on the model itself, with a few tokens. The first layers are the ones to be recomputed: by
then the gradient has freed what the later layers kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from align.recipe.activations import beside_layers, layers_to_recompute
from align.training.memory.running_out import ran_out, release
from align.training.packed.packing import pack
from align.training.session import Session
from align.training.texts.data import Row

# Tokens of the pass that measures.
SAMPLE_TOKENS = 512


def layers_of(model: torch.nn.Module) -> list[Any]:
    """Return the layers whose activations can be recomputed, in order."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def recompute_first(model: torch.nn.Module, count: int) -> None:
    """Recompute the first `count` layers alone, of a model whose recomputation is enabled."""
    for number, layer in enumerate(layers_of(model)):
        layer.gradient_checkpointing = number < count


def kept_per_token(
    model: torch.nn.Module,
    rows: Sequence[Row],
    share: bool = True,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> float:
    """Return the bytes that the forward pass keeps for the gradient, per token of a pack, measured on a few rows."""
    sample, total = [], 0
    for row in rows:
        size = packed_tokens(row, share)
        if total + size <= SAMPLE_TOKENS:
            sample.append(row.tree)
            total += size
    sample = sample or [min(rows, key=lambda row: packed_tokens(row, share)).tree]
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would keep its own graph alive for ever

    batch = pack(sample, share).to(next(model.parameters()).device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t), autocast():
        alive = model(pack=batch)  # nothing that was kept is freed before it is counted
    del alive
    return sum(kept.values()) / batch.input_ids.numel()


def packed_tokens(row: Row, share: bool) -> int:
    """Return how many tokens of a pack the row takes."""
    answers = row.tree.answers
    return len(row.tree.prompt) * (1 if share else len(answers)) + sum(map(len, answers))


def choose_recomputation(session: Session, model: torch.nn.Module, rows: Sequence[Row], free: float) -> None:
    """Set `session.recomputed` so that the largest micro-batch fits in `free` bytes of the device.

    Changes nothing where the recipe says what to recompute, where the model is in shards or computes padded rows, and after
    memory ran out once.
    """
    hardware = session.hardware
    auto = session.recipe.gradient_checkpointing == "auto" and hardware.gradient_checkpointing
    if not auto or session.sharded or session.padded or session.out_of_memory:
        return
    share = bool(session.recipe.values.get("share_prompt", True))
    sizes = sorted((packed_tokens(row, share) for row in rows), reverse=True)
    tokens = sum(sizes[: session.micro_batch])
    layers = len(layers_of(model))
    if not layers:
        return
    try:
        kept = kept_per_token(model, rows, share, session.autocast)
    except (MemoryError, RuntimeError) as error:
        if ran_out(error) is None:
            raise
        session.note("activations of all layers are recomputed: not even those of a few rows fit")
        kept = None
    if kept is None:
        release()
        return
    boundary = model.config.get_text_config().hidden_size * hardware.dtype.itemsize
    fixed = _beside_layers(model, hardware.dtype) + tokens * kept / layers
    session.recomputed = layers_to_recompute(free - fixed, kept, boundary, layers, tokens)
    session.note(
        f"activations of {session.recomputed} of {layers} layers are recomputed: all would keep "
        f"{kept * tokens / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
    )


def _beside_layers(model: torch.nn.Module, dtype: torch.dtype) -> float:
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    config: Any = model.config
    text = config.get_text_config()
    return beside_layers(
        trainable,
        text.hidden_size,
        getattr(text, "intermediate_size", None) or 0,
        text.vocab_size,
        dtype.itemsize,
    )
