"""Which attention a base model must be loaded with to compute what an engine computes.

transformers' default (PyTorch's `scaled_dot_product_attention`) passes over the cap on attention scores that some models
have (Gemma 2), without an error: training and the probe would then compute another model than the one that is served.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig


def attention_arguments(path: str | Path) -> dict[str, Any]:
    """Return the arguments for `from_pretrained` by which the attention of the model in `path` is computed in full.

    Raises what `AutoConfig.from_pretrained` raises.
    """
    config = AutoConfig.from_pretrained(path).get_text_config()
    return {"attn_implementation": "eager"} if getattr(config, "attn_logit_softcapping", None) else {}
