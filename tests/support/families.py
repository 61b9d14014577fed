"""Tiny random models of the families that people serve: each with its own configuration class and style of template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.models import BYTES, make_tokenizer, save_whole

_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_CHATML_THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
    "{{ m['content'].split('</think>')[-1].lstrip('\\n') }}{% else %}{{ m['content'] }}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
_LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' + m['content'] | trim }}"
    "{{ '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST]' + m['content'] + '[/INST]' }}"
    "{% elif m['role'] == 'system' %}{{ '[SYSTEM_PROMPT]' + m['content'] + '[/SYSTEM_PROMPT]' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
_PHI = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
_OLMO = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|assistant|>\\n' + m['content'] }}"
    "{{ eos_token }}{% else %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TURN = ("<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
_ROLES = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

_GEMMA2_LAYERS = {
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 64,
    "tie_word_embeddings": True,
}
_GEMMA3_LAYERS = {**_GEMMA2_LAYERS, "layer_types": ["sliding_attention", "full_attention"]}


@dataclass(frozen=True)
class Family:
    """A family: its configuration class in transformers, its template and special tokens (the first of them ends a text).

    `end` ends a turn, `extra` are settings of the configuration beside the common ones. `around` is
    the configuration class of a model with a tower for images, and its further settings.
    """

    config: str
    template: str
    specials: tuple[str, ...]
    end: str
    bos: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    around: tuple[str, Mapping[str, Any]] | None = None


FAMILIES = {
    "llama": Family(
        "LlamaConfig",
        _LLAMA,
        ("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        "<|begin_of_text|>",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    ),
    "qwen2": Family("Qwen2Config", _CHATML, _IM, "<|im_end|>"),
    "qwen3": Family("Qwen3Config", _CHATML_THINKING, _IM, "<|im_end|>", extra={"head_dim": 32}),
    "gemma2": Family(
        "Gemma2Config",
        _GEMMA,
        _TURN,
        "<end_of_turn>",
        "<bos>",
        _GEMMA2_LAYERS,
    ),
    "gemma3": Family(
        "Gemma3TextConfig",
        _GEMMA,
        _TURN,
        "<end_of_turn>",
        "<bos>",
        _GEMMA3_LAYERS,
    ),
    "gemma3 with images": Family(
        "Gemma3TextConfig",
        _GEMMA,
        (*_TURN, "<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        "<end_of_turn>",
        "<bos>",
        _GEMMA3_LAYERS,
        (
            "Gemma3Config",
            {
                "vision_config": {
                    "hidden_size": 64,
                    "intermediate_size": 128,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "image_size": 32,
                    "patch_size": 8,
                },
                "mm_tokens_per_image": 4,
                "boi_token_index": BYTES + 4,
                "eoi_token_index": BYTES + 5,
                "image_token_index": BYTES + 6,
                "eos_token_id": BYTES + 3,
            },
        ),
    ),
    "mistral": Family(
        "MistralConfig",
        _MISTRAL,
        ("</s>", "<s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        "</s>",
        "<s>",
        {"sliding_window": None, "head_dim": 32},
    ),
    "phi3": Family("Phi3Config", _PHI, _ROLES, "<|end|>", extra={"sliding_window": None}),
    "phi": Family("PhiConfig", _CHATML, _IM, "<|im_end|>", extra={"partial_rotary_factor": 0.5}),
    "smollm2": Family("LlamaConfig", _CHATML, _IM, "<|im_end|>", extra={"tie_word_embeddings": True}),
    "smollm3": Family("SmolLM3Config", _CHATML_THINKING, _IM, "<|im_end|>"),
    "olmo2": Family("Olmo2Config", _OLMO, _ROLES, "<|endoftext|>"),
    "olmo": Family("OlmoConfig", _OLMO, _ROLES, "<|endoftext|>"),
    "qwen3_moe": Family(
        "Qwen3MoeConfig",
        _CHATML_THINKING,
        _IM,
        "<|im_end|>",
        extra={"head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
    ),
}
"""By the word that people use; SmolLM2 is a Llama with another template."""


def make_family(directory: Path, name: str, seed: int = 0) -> Path:
    """Write a random model of a family, of about half a million parameters; a whole one is left as it is."""
    if (directory / "config.json").exists():
        return directory
    import torch
    import transformers

    family = FAMILIES[name]
    tokenizer = make_tokenizer(family.template, family.specials, family.end, family.bos)
    token = {text: BYTES + number for number, text in enumerate(family.specials)}
    settings: dict[str, Any] = {
        "vocab_size": BYTES + len(family.specials),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "initializer_range": 0.2,
        "bos_token_id": token[family.bos or family.end],
        "eos_token_id": token[family.end],
        "pad_token_id": token[family.end],
        **family.extra,
    }
    torch.manual_seed(seed)
    config = getattr(transformers, family.config)(**settings)
    if family.around is not None:
        kind, more = family.around
        config = getattr(transformers, kind)(text_config=config.to_dict(), **more)
    return save_whole(directory, transformers.AutoModelForCausalLM.from_config(config).float(), tokenizer)
