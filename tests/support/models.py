"""Tiny base models and LoRA adapters with random weights, made in a second, real for vLLM and PEFT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
BYTES = 256
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def make_tiny_base(directory: Path, *, seed: int = 0, hidden: int = 128, layers: int = 2) -> Path:
    """Write a random Llama of about 0.5 M parameters with a byte tokenizer and a chat template.

    Its vocabulary is the 256 bytes and four special tokens; `hidden` must be a multiple of 128 (four heads of
    a size that vLLM's CPU attention knows). Returns `directory`; a whole one is left as it is.
    """
    if (directory / "config.json").exists():
        return directory
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fast = make_tokenizer(TEMPLATE, SPECIALS, "<|end|>")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=BYTES + len(SPECIALS),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        initializer_range=0.3,
        bos_token_id=BYTES,
        eos_token_id=BYTES,
        pad_token_id=BYTES,
    )
    return save_whole(directory, LlamaForCausalLM(config).float(), fast)


def make_tokenizer(template: str, specials: Sequence[str], eos: str, bos: str | None = None) -> Any:
    """Return a byte tokenizer: ids 0 to 255 are the bytes, the special tokens follow in their order."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True) for s in specials])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=eos, pad_token=eos, bos_token=bos or eos
    )
    fast.chat_template = template
    return fast


def save_whole(directory: Path, model: Any, tokenizer: Any) -> Path:
    """Write a model directory that is complete or absent."""
    scratch = directory.with_name(directory.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    scratch.rename(directory)
    return directory


def make_lora(
    directory: Path,
    base: Path,
    *,
    seed: int = 0,
    rank: int = 4,
    scale: float = 0.5,
    target_modules: tuple[str, ...] = ALL_LINEAR,
    **config: object,
) -> Path:
    """Write a LoRA adapter for `base` with random weights in both factors (PEFT's own start has B = 0).

    `scale` is the standard deviation of the weights: at 0.5 each seed gives another greedy answer. `config`
    are further fields of PEFT's LoraConfig. Returns `directory`.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = {"r": rank, "lora_alpha": rank, "target_modules": list(target_modules), **config}
    peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale / weight.shape[1] ** 0.5)
    peft.save_pretrained(str(directory))
    return directory


def make_many_loras(
    directory: Path, base: Path, count: int, *, rank: int = 1, scale: float = 0.5
) -> list[Path]:
    """Write `count` adapters quickly: one PEFT configuration, fresh random tensors for each."""
    import torch
    from safetensors.torch import load_file, save_file

    first = make_lora(directory / "lora-0", base, seed=0, rank=rank, scale=scale)
    tensors = load_file(first / "adapter_model.safetensors")
    paths = [first]
    for n in range(1, count):
        path = directory / f"lora-{n}"
        path.mkdir(parents=True)
        generator = torch.Generator().manual_seed(n)
        fresh = {
            k: torch.randn(v.shape, generator=generator) * scale / v.shape[1] ** 0.5
            for k, v in tensors.items()
        }
        save_file(fresh, path / "adapter_model.safetensors", metadata={"format": "pt"})
        shutil.copy(first / "adapter_config.json", path)
        paths.append(path)
    return paths


def read_config(directory: Path) -> dict[str, object]:
    """Return a model directory's `config.json`."""
    return dict(json.loads((directory / "config.json").read_text()))
