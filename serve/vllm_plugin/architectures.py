"""Which model architectures vLLM serves with LoRA: `python -m serve.vllm_plugin.architectures NAME ...` prints JSON.

A process of its own: importing vLLM takes many seconds and a gigabyte, and the platform imports none of it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from vllm.model_executor.models.interfaces import supports_lora
from vllm.model_executor.models.interfaces_base import is_text_generation_model
from vllm.model_executor.models.registry import ModelRegistry
from vllm.plugins import load_general_plugins


def describe(architecture: str) -> dict[str, Any]:
    """Return `{served, lora, why}` of an architecture, the name in `config.json`."""
    model = ModelRegistry.models.get(architecture)
    if model is None:
        try:
            ModelRegistry._raise_for_unsupported([architecture])
        except ValueError as error:
            return {"served": False, "lora": False, "why": str(error).partition(" Supported arch")[0]}
    try:
        found = model.load_model_cls()
    except Exception as error:  # an architecture may need a library that is not installed
        return {"served": False, "lora": False, "why": f"vLLM cannot load it ({error})".replace("\n", " ")}
    if not is_text_generation_model(found):
        return {"served": False, "lora": False, "why": "it generates no text"}
    return {"served": True, "lora": bool(supports_lora(found)), "why": ""}


def main(names: list[str]) -> int:
    """Print what is known of each name, as one JSON object on the last line."""
    load_general_plugins()
    print(json.dumps({name: describe(name) for name in names}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
