"""Base and adapter as one set of weights: merged and checked in float32, then rounded once to the type that is written.

Rounding to 16 bits moves log-probabilities as far as a tenth of an adapter, or one layer of it, does: a bound that lets
rounding pass lets such faults pass too. So the merge is compared with base and adapter before it is rounded, where correct
ones differ by next to nothing, and what is read back from the disk is compared with the rounded weights value by value.
The memory is that of the weights in float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from align.errors import AlignError
from align.training.attention import attention_arguments
from align.training.probe import load_adapter, logprobs
from common.sequences import mean_distance

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Nats per token that weights as they were written may differ by from base and adapter, both in full."""
MERGED, SHARE, FLOAT32 = 1e-3, 0.02, 1e-4
"""Nats per token that merged weights may differ by in float32: `MERGED`, or less where the adapter's own effect is small,
this share of it; but never less than what computing in another order makes in float32."""


class MergeError(AlignError):
    """The adapter cannot be merged; the text says why."""

    kind = "merge"


@dataclass(frozen=True)
class Merged:
    """A model in the type to write, and log-probabilities of the probe text.

    `base` and `release` (base and adapter apart) are in float32, `rounded_base` those of the base alone in that type.
    """

    model: Any
    base: list[float]
    release: list[float]
    rounded_base: list[float]

    @property
    def noise(self) -> float:
        """Return what rounding the base alone does, in nats per token."""
        return mean_distance(self.base, self.rounded_base)

    def accepted(self, dtype: torch.dtype) -> float:
        """Return how far weights of this type, read back, may be from the release: no check of the merge, which is done."""
        return max(TOLERANCE.get(dtype, 5e-2), 2 * self.noise)


def merge_adapter(directory: str, adapter: Path | None, dtype: str, tokens: Sequence[int]) -> Merged:
    """Merge an adapter into the base in `directory`, in `dtype` or, with "auto", in the base's own type.

    Raises `MergeError` where the merge meets values that are not finite, or does something else than base and adapter.
    """
    model = load_model(directory, dtype)
    types = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    rounded_base = logprobs(model, tokens)
    if dtype not in ("auto", "float32"):
        del model
        model = load_model(directory, "float32")
    model = model.float()
    base = release = logprobs(model, tokens)
    if adapter is not None:
        tuned = load_adapter(model, adapter)
        release = logprobs(tuned, tokens)
        model = _merged(tuned)
        _require_same_effect(base, release, logprobs(model, tokens))
    _round(model, types)
    return Merged(model, base, release, rounded_base)


def load_model(directory: str, dtype: str = "auto") -> Any:
    """Load a model to compute with."""
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, **attention_arguments(directory)
    ).eval()


def digests(model: Any) -> dict[str, str]:
    """Return a digest of the values of each tensor, whatever type holds them."""
    return {name: _digest(tensor) for name, tensor in model.state_dict().items()}


def require_same_values(meant: dict[str, str], written: Any) -> None:
    """Raise `MergeError` unless a model that was read back has the tensors that were to be written, value by value."""
    found = digests(written)
    if different := sorted(
        name for name in meant.keys() | found.keys() if meant.get(name) != found.get(name)
    ):
        raise MergeError(f"{different[0]} was not written as it was merged")


def _merged(tuned: Any) -> Any:
    try:
        return tuned.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise MergeError(f"the adapter holds values that are not finite: {error}") from error


def _require_same_effect(base: list[float], release: list[float], merged: list[float]) -> None:
    accepted = max(FLOAT32, min(MERGED, SHARE * mean_distance(base, release)))
    found = mean_distance(release, merged)
    if not found <= accepted:
        raise MergeError(
            f"merged weights differ from base and adapter by {found:.4g} nats per token in float32; accepted: {accepted:.4g}"
        )


def _round(model: Any, types: dict[str, torch.dtype]) -> None:
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if name in types:
            tensor.data = tensor.data.to(types[name])


def _digest(tensor: torch.Tensor) -> str:
    values = tensor.detach().cpu()
    values = values.float() if values.is_floating_point() else values
    data = values.contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.blake2b(data, digest_size=16).hexdigest()
