"""Answers of a model to many prompts at once, by transformers, as the platform samples them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from bench.deciding.teach_cases import MAX_TOKENS, TEMPERATURE, TOP_P


@dataclass(frozen=True)
class Answer:
    """An answer, and whether it ended at the limit of its tokens."""

    text: str
    cut: bool

    @property
    def finish_reason(self) -> str:
        """The reason as the gateway states it."""
        return "length" if self.cut else "stop"


class GreedyRows(LogitsProcessor):  # type: ignore[misc]
    """Leaves the likeliest token alone in the rows where `greedy` is set; the others are sampled."""

    def __init__(self, greedy: torch.Tensor) -> None:
        self.greedy = greedy

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores with all but the likeliest token of a greedy row at minus infinity."""
        best = scores.argmax(-1, keepdim=True)
        alone = torch.full_like(scores, -torch.inf).scatter(1, best, scores.gather(1, best))
        return torch.where(self.greedy[:, None], alone, scores)


@torch.inference_mode()
def answer(
    network: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    greedy: Sequence[bool],
    *,
    seed: int,
    max_tokens: int = MAX_TOKENS,
    batch: int = 512,
    seconds: float | None = None,
) -> list[Answer]:
    """Answer each prompt (rendered text), by the likeliest tokens where `greedy` says so, in batches of similar length.

    Raises `TimeoutError` when a batch would begin after `seconds`.
    """
    device = next(network.parameters()).device
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    found: dict[int, Answer] = {}
    began = time.monotonic()
    torch.manual_seed(seed)
    for start in range(0, len(order), batch):
        if seconds is not None and time.monotonic() - began > seconds:
            raise TimeoutError(f"{len(order) - start} answers are missing after {seconds:.0f} s")
        rows = order[start : start + batch]
        inputs = _padded([ids[row] for row in rows], ends[-1], device)
        chosen = torch.tensor([greedy[row] for row in rows], device=device)
        out = network.generate(
            **inputs,
            max_new_tokens=max_tokens,
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            top_k=0,
            eos_token_id=ends,
            pad_token_id=ends[-1],
            logits_processor=LogitsProcessorList([GreedyRows(chosen)]),
        )
        for row, tokens in zip(rows, out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            end = next((place for place, token in enumerate(tokens) if token in ends), None)
            text = tokenizer.decode(tokens[:end], skip_special_tokens=True)
            found[row] = Answer(text.strip(), end is None)
    return [found[row] for row in range(len(ids))]


def _padded(ids: Sequence[Sequence[int]], pad: int, device: Any) -> dict[str, torch.Tensor]:
    """Return a batch padded on the left."""
    width = max(map(len, ids))
    tokens = [[pad] * (width - len(row)) + list(row) for row in ids]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
    return {
        "input_ids": torch.tensor(tokens, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }
