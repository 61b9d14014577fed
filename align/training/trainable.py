"""Whether LoRA can train a base model: its configuration, tokenizer and chat template, without its weights.

`python -m align.trainable DIR` prints one JSON object: `{parameters, modules, model_type}`, or `{field, error}` with what
is at fault. The model is built on torch's meta device, so that it takes no memory.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.quantizers import AutoHfQuantizer

from align.errors import AlignError, ModelError
from align.training.model import all_linear, load_tokenizer
from align.training.texts.chat_template import Refused, render

CHAT = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good morning."})


class _Fault(AlignError):
    """What keeps a model from being trained: `kind` is the field at fault."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.kind = field


def examine(directory: Path) -> dict[str, Any]:
    """Return the model's type, its count of parameters and the names of the modules that get an adapter.

    Raises `AlignError`, whose `kind` is the field at fault.
    """
    _check_chat(directory)
    config = _config(directory)
    _check_quantization(config)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise _Fault(
            "architecture", f"transformers has no causal language model for it ({_line(error)})"
        ) from error
    parameters = sum(p.numel() for p in model.parameters())
    try:
        with torch.device("meta"):
            peft = get_peft_model(
                model,
                LoraConfig(task_type="CAUSAL_LM", r=1, target_modules=all_linear(model)),
                low_cpu_mem_usage=True,
            )
    except ValueError as error:
        raise _Fault("architecture", f"PEFT finds no linear layer to adapt ({_line(error)})") from error
    modules = [
        name.removeprefix("base_model.model.") for name, m in peft.named_modules() if isinstance(m, LoraLayer)
    ]
    return {"model_type": config.model_type, "parameters": parameters, "modules": modules}


def _check_chat(directory: Path) -> None:
    try:
        tokenizer = load_tokenizer(str(directory))
    except ModelError as error:
        field = "chat_template" if "chat template" in error.message else "tokenizer"
        raise _Fault(field, _line(error)) from error
    except Exception as error:  # a tokenizer may need a library, or code of its own
        raise _Fault("tokenizer", f"it can't be loaded ({_line(error)})") from error
    try:
        render(tokenizer, CHAT, False)
        render(tokenizer, CHAT[:1], True)
    except Refused as error:
        raise _Fault("chat_template", f"it renders no conversation ({_line(error)})") from error


def _config(directory: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(directory)
    except Exception as error:  # a configuration may be anything; transformers raises several kinds
        raise _Fault("architecture", f"transformers can't read config.json ({_line(error)})") from error


def _check_quantization(config: Any) -> None:
    """Refuse weights whose quantisation needs what is not here."""
    given = getattr(config, "quantization_config", None)
    if given is None:
        return
    try:
        AutoHfQuantizer.from_config(given, pre_quantized=True).validate_environment(device_map=None)
    except (ImportError, ValueError, RuntimeError) as error:
        raise _Fault("quantization", f"its weights can't be loaded for training ({_line(error)})") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def main(argv: list[str] | None = None) -> int:
    """Print what was found, or the fault, as one JSON line; the exit status is 0 for both."""
    parser = argparse.ArgumentParser(prog="python -m align.trainable")
    parser.add_argument("directory", type=Path, help="directory with config.json and the tokenizer's files")
    try:
        found = examine(parser.parse_args(argv).directory)
    except AlignError as error:
        found = {"field": error.kind, "error": error.message}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
