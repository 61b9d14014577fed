"""Llama-shaped models with random weights, built on their device, without files.

The model is made on the meta device. Each linear layer then gets random weights where it will live and, for NF4, is
quantised at once, so that building a 65-billion-parameter model needs little more memory than the model.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SHAPES: dict[str, dict[str, int | bool]] = {
    "65b": {
        "hidden_size": 8192,
        "intermediate_size": 22016,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 64,
        "vocab_size": 32000,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "7b": {  # the 8b shape with the vocabulary of SmolLM2, whose tokenizer can then serve it
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 49152,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "360m": {
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
    },
    "small": {  # with the vocabulary of SmolLM2, whose tokenizer can then serve it
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 49152,
    },
}


def build(shape: str, nf4: bool, device: str, dtype: torch.dtype, seed: int = 0) -> LlamaForCausalLM:
    """Return a frozen model of `shape` with random weights, its decoder's linear layers in NF4 if asked."""
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=8192, use_cache=False)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(dtype)
    generator = torch.Generator(device=device).manual_seed(seed)

    def random(*size: int) -> torch.Tensor:
        return torch.empty(*size, device=device, dtype=dtype).normal_(0, 0.02, generator=generator)

    for module in list(model.modules()):
        if isinstance(module, nn.Embedding):
            module.weight = nn.Parameter(random(*module.weight.shape), requires_grad=False)
        elif type(module).__name__ == "LlamaRMSNorm":
            module.weight = nn.Parameter(torch.ones(module.weight.shape, device=device, dtype=dtype))
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(
                    module, name, _linear(child, nf4 and child is not model.lm_head, random, device, dtype)
                )
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    rotary = type(model.model.rotary_emb)
    with torch.device(device):
        model.model.rotary_emb = rotary(config)
    model.requires_grad_(False)
    if nf4:
        model.is_loaded_in_4bit = True  # what PEFT and TRL look at
    return model


def _linear(child: nn.Linear, nf4: bool, random: Any, device: str, dtype: torch.dtype) -> nn.Linear:
    weight = random(*child.weight.shape)
    if not nf4:
        plain = nn.Linear(child.in_features, child.out_features, bias=False, device="meta")
        plain.weight = nn.Parameter(weight, requires_grad=False)
        return plain
    packed = bnb.nn.Linear4bit(
        child.in_features,
        child.out_features,
        bias=False,
        compute_dtype=dtype,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    packed.weight = bnb.nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=packed
    ).to(device)
    return packed


def parameters(shape: str) -> int:
    """Count the numbers of a shape, unquantised."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape]))
    return sum(p.numel() for p in model.parameters())


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer in which the text `w7 w9` is the two ids 7 and 9; id 0 ends a text and pads."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"</s>": 0, "<unk>": 1, **{f"w{i}": i for i in range(2, vocabulary)}}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )
