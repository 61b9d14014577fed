"""LoRA adapters: what training makes and an engine serves."""

from __future__ import annotations

PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Values of `init_lora_weights` that set the adapter's own first weights alone and leave the base model's as they are."""

COMBINATIONS = (
    "cat", "svd", "linear", "ties", "ties_svd", "dare_linear", "dare_linear_svd", "dare_ties", "dare_ties_svd",
    "magnitude_prune", "magnitude_prune_svd",
)  # fmt: skip
"""How PEFT combines adapters (`add_weighted_adapter`)."""


def chooses_rank(combination: str) -> bool:
    """Return whether a combination computes the change of the weights and reduces it to a rank."""
    return combination.endswith("svd")


def keeps_rank(combination: str) -> bool:
    """Return whether a combination works on the factors, which need one rank then."""
    return combination != "cat" and not chooses_rank(combination)


def prunes(combination: str) -> bool:
    """Return whether a combination keeps only a share of the values, its `density`."""
    return combination.startswith(("ties", "dare", "magnitude"))
