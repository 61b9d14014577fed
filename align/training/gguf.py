"""A GGUF file as a Hugging Face directory in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging

from align.errors import ModelError


def convert(
    source: Path, out: Path, special_tokens: Mapping[str, str], say: Callable[[str], None] = lambda line: None
) -> None:
    """Write model and tokenizer of `source` to `out`; without `special_tokens`, those that the file names.

    Raises `ModelError` when the file cannot be read.
    """
    logging.disable_progress_bar()
    say(f"dequantising {source.name} to float32")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(source.parent),
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    except (OSError, ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise ModelError(f"{source} cannot be read ({error})") from error
    for name, token in (special_tokens or _special_tokens(source)).items():
        setattr(tokenizer, name, token)
    say(f"writing {sum(p.numel() for p in model.parameters()) * 4 / 1e6:.0f} MB")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for file in out.glob("*.safetensors"):
        file.chmod(0o644)


def _special_tokens(source: Path) -> dict[str, str]:
    """Return the tokens that a file names by number, which not every release of transformers reads."""
    fields = GGUFReader(source).fields
    tokens = fields.get("tokenizer.ggml.tokens")
    found = {}
    for name in ("bos", "eos", "padding", "unknown"):
        number = fields.get(f"tokenizer.ggml.{name}_token_id")
        if tokens is not None and number is not None:
            attribute = {"padding": "pad", "unknown": "unk"}.get(name, name)
            found[f"{attribute}_token"] = str(tokens.contents(int(number.contents())))
    if "eos_token" in found:
        found.setdefault("pad_token", found["eos_token"])
    return found
