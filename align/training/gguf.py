"""A GGUF file as a Hugging Face directory in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging

from align.errors import ModelError


def convert(
    source: Path, out: Path, special_tokens: Mapping[str, str], say: Callable[[str], None] = lambda line: None
) -> None:
    """Write model and tokenizer of `source` to `out`. Raises `ModelError` when the file cannot be read."""
    logging.disable_progress_bar()
    say(f"dequantising {source.name} to float32 (about 20 s)")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(source.parent),
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{source} cannot be read ({error})") from error
    for name, token in special_tokens.items():
        setattr(tokenizer, name, token)
    say("writing 540 MB (a few seconds)")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
