"""Checkpoints of a model that several processes hold in shards (FSDP 1): each process keeps its own part.

`shard-RANK.pt` holds that process's slices of the trainable parameters and its optimiser's state, so a checkpoint serves
the number of processes that wrote it, which the recipe fixes. The adapter beside them is whole and in PEFT's format. The
base's weights are in none of them. This module is about FSDP, not about losses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel

WRAPPED = "_fsdp_wrapped_module."


def save_shard(directory: Path, rank: int, model: torch.nn.Module, optimizer: Any, scheduler: Any) -> None:
    """Write what this process alone holds."""
    directory.mkdir(parents=True, exist_ok=True)
    facts = {
        "parameters": [p.detach() for p in _trainable(model)],
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    torch.save(facts, directory / f"shard-{rank}.pt")


def load_parameters(directory: Path, rank: int, model: torch.nn.Module) -> None:
    """Put this process's slices of the trainable parameters back."""
    stored = _read(directory, rank)["parameters"]
    for parameter, value in zip(_trainable(model), stored, strict=True):
        parameter.data.copy_(value)


def load_optimizer(directory: Path, rank: int, optimizer: Any, scheduler: Any) -> None:
    """Put this process's optimiser state and the schedule back."""
    stored = _read(directory, rank)
    optimizer.load_state_dict(stored["optimizer"])
    scheduler.load_state_dict(stored["scheduler"])


def whole_adapter(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return the weights of the adapter `default`, gathered on the CPU, by their names in PEFT's files.

    Every process must call it. PEFT itself finds no weights of a model whose layers are wrapped.
    """
    found: dict[str, Tensor] = {}
    for name, unit in model.named_modules():
        # A unit's flat parameter belongs to the module that it wraps.
        if not isinstance(unit, FullyShardedDataParallel) or not any(
            p.requires_grad for p in unit.module.parameters(recurse=False)
        ):
            continue
        with FullyShardedDataParallel.summon_full_params(unit, recurse=False, writeback=False):
            for inner, parameter in unit.named_parameters(recurse=True):
                if parameter.requires_grad:
                    key = f"{name}.{inner}".replace(WRAPPED, "").replace(".default.", ".")
                    found[key.lstrip(".")] = parameter.detach().cpu().clone()
    return found


def _trainable(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _read(directory: Path, rank: int) -> dict[str, Any]:
    # Written by this run's own process; an 8-bit optimiser's state is more than plain tensors.
    stored: dict[str, Any] = torch.load(
        directory / f"shard-{rank}.pt", map_location="cpu", weights_only=False
    )
    return stored
