"""The sizes of a base model that a plan counts with, from its `config.json` alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from align.errors import ModelError
from align.recipe.recipe import Recipe
from common.architecture import text_config


@dataclass(frozen=True)
class Shape:
    """Widths, layers and vocabulary of a model of the Llama family; `queries` and `keys` are the widths of all heads."""

    hidden: int
    inner: int
    layers: int
    queries: int
    keys: int
    vocabulary: int
    tied: bool

    @classmethod
    def read(cls, directory: Path) -> Shape:
        """Return the shape of a model directory. Raises `ModelError`."""
        try:
            config = text_config(json.loads((directory / "config.json").read_text()))
            heads = int(config["num_attention_heads"])
            size = int(config.get("head_dim") or config["hidden_size"] // heads)
            return cls(
                int(config["hidden_size"]),
                int(config["intermediate_size"]),
                int(config["num_hidden_layers"]),
                heads * size,
                int(config.get("num_key_value_heads") or heads) * size,
                int(config["vocab_size"]),
                bool(config.get("tie_word_embeddings", False)),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{directory} has no configuration to plan from ({error!r})") from error

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """Input and output widths of the linear layers of one block, by name."""
        h, i = self.hidden, self.inner
        attention = {"q_proj": (h, self.queries), "k_proj": (h, self.keys), "v_proj": (h, self.keys)}
        return {
            **attention,
            "o_proj": (self.queries, h),
            "gate_proj": (h, i),
            "up_proj": (h, i),
            "down_proj": (i, h),
        }

    @property
    def linear(self) -> int:
        """Numbers in the linear layers of all blocks."""
        return self.layers * sum(a * b for a, b in self.modules.values())

    @property
    def rest(self) -> int:
        """Numbers in everything else: embeddings, head, norms."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + (2 * self.layers + 1) * self.hidden

    def trainable(self, recipe: Recipe) -> int:
        """Numbers in the adapter that `recipe` puts on the model."""
        wanted = self.modules if recipe.target_modules == "all-linear" else recipe.target_modules
        each = sum(
            (a + b) * recipe.rank_pattern.get(n, recipe.r)
            for n, (a, b) in self.modules.items()
            if n in wanted
        )
        return self.layers * each
