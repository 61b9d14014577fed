"""What a model must answer greedily, computed by transformers and PEFT one token at a time, without vLLM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Answer = tuple[tuple[int, ...], float]


def greedy(model: Any, tokenizer: Any, messages: Sequence[dict[str, str]], tokens: int) -> Answer:
    """Return the greedy answer's token ids and the smallest margin (in logits) between the first and the second choice.

    A margin well above rounding errors means that batching cannot change the answer.
    """
    import torch

    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    start, margin = ids.shape[1], float("inf")
    with torch.no_grad():
        for _ in range(tokens):
            top = model(ids).logits[0, -1].topk(2)
            margin = min(margin, float(top.values[0] - top.values[1]))
            ids = torch.cat([ids, top.indices[:1][None]], dim=1)
    return tuple(ids[0, start:].tolist()), margin


def answers(
    base: Path, adapters: Iterable[Path], prompts: Sequence[str], tokens: int
) -> tuple[list[list[Answer]], list[Answer]]:
    """Return for each adapter, and for the plain base, what it answers to each prompt."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)

    def ask(model: Any) -> list[Answer]:
        return [greedy(model, tokenizer, [{"role": "user", "content": p}], tokens) for p in prompts]

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    own = ask(plain)
    tuned = []
    for path in adapters:
        fresh = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        tuned.append(ask(PeftModel.from_pretrained(fresh, str(path)).eval()))
    return tuned, own
