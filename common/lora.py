"""LoRA adapters: what training makes and an engine serves."""

from __future__ import annotations

PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Values of `init_lora_weights` that set the adapter's own first weights alone and leave the base model's as they are."""
