"""Teach a Hugging Face causal language model to score a `Pack`: `model(pack=...)` gives token
log-probabilities.

Works for any decoder that takes its attention from transformers' attention interface and has no sliding
window and no change to its logits; `why_not` returns what prevents it, and `disagreement` measures, on
the model itself, that packed and plain scores are equal.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from align.training.packed.attention import ATTENTION, attend
from align.training.packed.logprobs import token_logprobs
from align.training.packed.packing import Pack, Tree, pack
from common.architecture import is_mixture_of_experts

AttentionInterface.register(ATTENTION, attend)

# Largest difference of one token's log-probability that rounding explains; a wrong layout gives several nats.
TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 1.0}

# Settings by which some architectures change their logits after the head.
_LOGIT_CHANGES = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)


def why_not(model: PreTrainedModel, max_length: int) -> str | None:
    """Return why `model` cannot be packed for rows of up to `max_length` tokens, or None when it can."""
    config = model.config.get_text_config()
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} does not take its attention from the attention interface"
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window and window < max_length:
        return f"sliding window of {window} tokens, rows of up to {max_length}"
    for name in _LOGIT_CHANGES:
        if getattr(config, name, None) not in (None, 1, 1.0):
            return f"the architecture changes its logits ({name})"
    if getattr(config, "attn_logit_softcapping", None):
        return "the architecture caps its attention scores"
    if getattr(config, "output_router_logits", False) or is_mixture_of_experts(model.config.to_dict()):
        return "mixture of experts"
    return None


def make_packed(model: PreTrainedModel) -> None:
    """Patch `model` so that `model(pack=...)` returns the log-probabilities (N) of the pack's answer tokens.

    Must be the bare causal language model (PEFT wraps it before or after). Other calls keep their meaning
    but raise `RuntimeError` in attention, because attention is now the packed one.
    """
    original = model.forward
    model.set_attn_implementation(ATTENTION)

    @functools.wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, pack: Pack | None = None, **kwargs: Any) -> Any:
        return original(*args, **kwargs) if pack is None else score(self, pack)

    model.forward = types.MethodType(forward, model)


def score(model: PreTrainedModel, pack: Pack) -> Tensor:
    """Return log p of each answer token of `pack` that counts (N), float32, with a gradient if the caller wants one."""
    hidden = model.base_model(
        input_ids=pack.input_ids, position_ids=pack.position_ids, use_cache=False, layout=pack.layout
    ).last_hidden_state
    head = model.get_output_embeddings()
    return token_logprobs(hidden[0].index_select(0, pack.sources), head.weight, pack.targets, head.bias)


@torch.no_grad()
def disagreement(model: PreTrainedModel) -> float:
    """Return the largest difference between packed and plain log-probabilities on a small tree, before
    patching."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    prompt, *answers = torch.randint(0, vocabulary, (3, 7), generator=generator).tolist()
    plain = []
    device = model.get_input_embeddings().weight.device
    for answer in answers:
        ids = torch.tensor([prompt + answer], device=device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        plain.append(logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None]).squeeze(1))
    before = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    try:
        packed = score(model, pack([Tree(prompt, tuple(answers))]).to(device))
    finally:
        model.set_attn_implementation(before)
    return float((torch.cat(plain) - packed).abs().max())


def make_plain(model: PreTrainedModel) -> None:
    """As `make_packed`, by padding the rows and the model's own attention and logits: slower, for any
    architecture."""
    original = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, pack: Pack | None = None, **kwargs: Any) -> Any:
        return original(*args, **kwargs) if pack is None else score_plain(original, pack)

    model.forward = types.MethodType(forward, model)


def score_plain(forward: Any, pack: Pack) -> Tensor:
    """Return what `score` returns, from a forward pass over padded rows, one row per answer."""
    ids, rows = pack.input_ids[0], []
    for start, prompt, answers in pack.layout.trees:
        first = start + prompt
        for length in answers:
            rows.append((ids[start : start + prompt], ids[first : first + length]))
            first += length
    width = max(len(p) + len(a) for p, a in rows)
    padded = ids.new_zeros(len(rows), width)
    mask = torch.zeros_like(padded)
    for i, (prompt_ids, answer_ids) in enumerate(rows):
        padded[i, : len(prompt_ids) + len(answer_ids)] = torch.cat([prompt_ids, answer_ids])
        mask[i, : len(prompt_ids) + len(answer_ids)] = 1
    logits = forward(input_ids=padded, attention_mask=mask, use_cache=False).logits
    picked = []
    for i, (prompt_ids, answer_ids) in enumerate(rows):
        own = logits[i, len(prompt_ids) - 1 : len(prompt_ids) + len(answer_ids) - 1].float()
        picked.append(own.log_softmax(-1).gather(1, answer_ids[:, None]).squeeze(1))
    return torch.cat(picked)[pack.counted]
