"""What the configuration of a base model and the names of its modules say of its architecture.

Training, the engine's settings and the checks before both read it here, so that they leave out the same layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""Names by which `config.json` gives how many experts a layer has."""
_NESTED = ("text_config", "ffn_config")

_IN_EXPERTS = re.compile(r"(?:^|\.)(?:\w*experts?|gate|router|\w*expert_gate)(?:\.|$)")
_IN_TOWER = re.compile(r"(?:^|\.)\w*(?:vision|visual|audio|tower|projector|connector)\w*(?:\.|$)")


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the language model; a model that also reads images or sound keeps them apart."""
    return {**config, **(config.get("text_config") or {})}


def is_mixture_of_experts(config: Mapping[str, Any]) -> bool:
    """Return whether a model with this `config.json` has experts."""
    parts = [config, *(part for name in _NESTED if isinstance(part := config.get(name), Mapping))]
    return any(part.get(name) for part in parts for name in EXPERT_COUNTS)


def in_experts(module: str) -> bool:
    """Return whether a module, by its full name, is in an expert, a shared one too, or chooses among them."""
    return _IN_EXPERTS.search(module) is not None


def in_tower(module: str) -> bool:
    """Return whether a module reads images or sound, or joins them to the language model."""
    return _IN_TOWER.search(module) is not None
