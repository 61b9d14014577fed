"""One cell of bench/training/ablation.py: train an adapter as the worker does, and measure what it answers.

The base answers once, and its answers stay in the state directory. A cell trains by the worker's own steps
(`align.training.pipeline`), merges its adapter into a copy of the base and has that answer other prompts.
"""

from __future__ import annotations

import copy
import json
import math
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from align.evaluation import instructions, neutral
from align.evaluation.health import rep4
from align.recipe.recipe import resolve
from align.run_directory import RunSpec
from align.stats import mean_interval, share_interval
from align.training.memory.running_out import release
from align.training.model import load_tokenizer
from align.training.texts.chat_template import render
from bench.training.answers import Answer, answer
from bench.training.jobs import Pair, open_job
from bench.training.pair_making import Rule, make_pair, rule_of
from bench.training.prompts import Exchange
from common.files import write_atomic


@dataclass(frozen=True)
class Cell:
    """What is trained: pairs by a rule and an arm, `rows` of them in the order of `draw`, and the recipe's parameters."""

    rows: int
    params: Mapping[str, Any] = field(default_factory=dict)
    rule: str = "shorter"
    arm: str = "two"
    draw: int = 0

    @property
    def name(self) -> str:
        """The cell's name, which is its file's too."""
        values = ("+".join(map(str, v)) if isinstance(v, list) else f"{v:g}" for v in self.params.values())
        given = [f"{name}={value}" for name, value in zip(self.params, values, strict=True)]
        return "_".join([self.rule, self.arm, f"{self.rows}rows", f"draw{self.draw}", *given])


@dataclass(frozen=True)
class Sizes:
    """How much is answered and measured."""

    learned: int = 300
    measured: int = 120
    answers: int = 8
    seeds: int = 2
    max_tokens: int = 128
    texts: int = 24


QUICK = Sizes(learned=8, measured=3, answers=4, seeds=1, max_tokens=24, texts=2)


class Workbench:
    """Holds the base, the prompts, and what the base answers to them."""

    def __init__(
        self, model: Path, found: Sequence[Exchange], sizes: Sizes, state: Path, device: str, dtype: str
    ) -> None:
        self.model, self.sizes, self.state, self.device, self.dtype = model, sizes, state, device, dtype
        self.tokenizer = load_tokenizer(str(model))
        self.base = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval().to(device)
        many = sizes.learned + sizes.measured
        if len(found) < many:
            raise SystemExit(f"{many} prompts are needed; there are {len(found)}")
        learned, measured = found[: sizes.learned], found[sizes.learned : many]
        self.known = dict(learned)
        self.learned = {"": [question for question, _ in learned]}
        self.measured = {"": [question for question, _ in measured]}
        every = instructions.generate(many, "ablation")
        self.rules = {entry.prompt: entry.rules for entry in every}
        self.learned["instructions"] = [entry.prompt for entry in every[: sizes.learned]]
        self.measured["instructions"] = [entry.prompt for entry in every[sizes.learned :]]
        self._texts = [self._text(entry.text) for entry in neutral.draw("text", sizes.texts, "ablation")]
        self._of_base: list[torch.Tensor] = []

    def prompts(self, rule: str, measured: bool) -> list[str]:
        """Return the questions of a rule's prompt set."""
        table = self.measured if measured else self.learned
        return table.get(rule, table[""])

    def rule(self, name: str) -> Rule:
        """Return a rule by name."""
        return rule_of(name, self.rules)

    def base_answers(self, rule: str, measured: bool) -> list[list[Answer]]:
        """Return the base's sampled answers to each prompt, kept in the state directory."""
        kind = "instructions" if rule == "instructions" else "asked"
        file = self.state / f"answers-{kind}-{'measured' if measured else 'learned'}.json"
        if not file.exists():
            many = self.sizes.answers
            asked = [prompt for prompt in self.prompts(rule, measured) for _ in range(many)]
            found = self.answer(self.base, asked, [False] * len(asked), seed=len(asked))
            grouped = [found[i : i + many] for i in range(0, len(found), many)]
            write_atomic(file, json.dumps([[asdict(one) for one in group] for group in grouped]))
        return [[Answer(**one) for one in group] for group in json.loads(file.read_text())]

    def answer(
        self, network: Any, questions: Sequence[str], greedy: Sequence[bool], seed: int
    ) -> list[Answer]:
        """Answer questions by a network."""
        asked = [
            render(self.tokenizer, [{"role": "user", "content": question}], True) for question in questions
        ]
        return answer(network, self.tokenizer, asked, greedy, seed=seed, max_tokens=self.sizes.max_tokens)

    def pairs(self, cell: Cell, measured: bool = False) -> list[Pair]:
        """Return the cell's pairs; those of the measured prompts are always made by the arm `two`."""
        questions, rng = self.prompts(cell.rule, measured), random.Random(f"pairs {cell.draw}")
        answers = self.base_answers(cell.rule, measured)
        rule, arm = self.rule(cell.rule), "two" if measured else cell.arm
        order = list(range(len(questions)))
        if not measured:
            rng.shuffle(order)
        made = (
            make_pair(arm, rule, questions[i], answers[i], self.known.get(questions[i], ""), rng)
            for i in order
        )
        found = [pair for pair in made if pair is not None]
        return found if measured else found[: cell.rows]

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and measure a cell, and return its figures."""
        began = time.monotonic()
        pairs, heldout = self.pairs(cell), self.pairs(cell, measured=True)
        if not pairs or not heldout:
            raise ValueError(f"{len(pairs)} pairs to train on and {len(heldout)} held out")
        with tempfile.TemporaryDirectory() as scratch:
            found = self._train(Path(scratch) / "run", cell, pairs, heldout)
            trained = time.monotonic()
            merged = self._merged(Path(scratch) / "adapter")
        figures = {**self._drift(merged), **self._win_rates(cell, merged)}
        del merged
        release()
        return {
            **found,
            **figures,
            "pairs": len(pairs),
            "seconds": {"train": trained - began, "measure": time.monotonic() - trained},
        }

    def _train(
        self, directory: Path, cell: Cell, pairs: Sequence[Pair], heldout: Sequence[Pair]
    ) -> dict[str, Any]:
        """Train by the worker's steps, save the adapter beside `directory`, and return the worker's measures."""
        from align.training import model as models
        from align.training import pipeline

        recipe = resolve("dpo", params={"dtype": self.dtype, "save_steps": 1_000_000, **cell.params})
        cache = str(self.state / "reference")
        spec = RunSpec("dpo", str(self.model), recipe.to_dict(), "s-bench", cache_dir=cache)
        job = open_job(directory, spec, pairs, heldout, notes_only=True)
        began = time.monotonic()
        state = pipeline.score_reference(pipeline.load_model(pipeline.load_data(pipeline.prepare(job))))
        fitting = time.monotonic()
        state = pipeline.fit(pipeline.measure_before(state))
        steps_s = time.monotonic() - fitting
        state = pipeline.measure_after(state)
        models.save_adapter(state.model, directory.parent / "adapter", str(self.model))
        job.log.close()
        assert state.trained is not None
        recipe, after = state.session.recipe, state.after
        chosen = ("learning_rate", "warmup_steps", "beta", "lora_alpha", "num_train_epochs")
        return {
            "steps": state.trained.steps,
            "steps_s": steps_s,
            "loading_s": fitting - began,
            "loss": state.trained.watch.last_metrics.get("loss"),
            "recipe": {name: recipe.values[name] for name in (*chosen, "gradient_accumulation_steps")},
            "reward_accuracy": after["reward_accuracy"],
            "chosen": after["logps/chosen"]["value"] - state.before["logps/chosen"]["value"],
            "heldout": len(heldout),
        }

    def _merged(self, adapter: Path) -> Any:
        """Return a copy of the base with an adapter merged into its weights."""
        from peft import PeftModel

        return PeftModel.from_pretrained(copy.deepcopy(self.base), str(adapter)).merge_and_unload().eval()

    def _win_rates(self, cell: Cell, merged: Any) -> dict[str, Any]:
        """Return how often the new answers win by the rule, sampled and greedy, against the base's."""
        questions, seeds = self.prompts(cell.rule, measured=True), self.sizes.seeds
        asked = [question for question in questions for _ in range(seeds)] + questions
        greedy = [False] * (seeds * len(questions)) + [True] * len(questions)
        new = self.answer(merged, asked, greedy, seed=cell.draw)
        sampled, likeliest = new[: seeds * len(questions)], new[seeds * len(questions) :]
        known = self.base_answers(cell.rule, measured=True)
        # Not the answers that the held-out pairs are made of, where there are others.
        old = [one for group in known for one in group[-seeds:]]
        rule = self.rule(cell.rule)
        wins = _wins(rule, asked, sampled, old)
        found: dict[str, Any] = {
            "win_rate": share_interval(wins, asked[: len(wins)]),
            "win_rate_greedy": share_interval(_wins(rule, questions, likeliest, self.base_greedy(cell.rule))),
        }
        for side, answers in (("new", sampled), ("base", old)):
            found[side] = {
                "words": sum(len(one.text.split()) for one in answers) / len(answers),
                "cut": sum(one.cut for one in answers) / len(answers),
                "empty": sum(not one.text for one in answers) / len(answers),
                "rep4": sum(rep4(one.text) for one in answers) / len(answers),
            }
        return found

    def base_greedy(self, rule: str) -> list[Answer]:
        """Return the base's likeliest answer to each measured prompt, kept in the state directory."""
        questions = self.prompts(rule, measured=True)
        file = self.state / f"greedy-{'instructions' if rule == 'instructions' else 'asked'}.json"
        if not file.exists():
            found = self.answer(self.base, questions, [True] * len(questions), seed=0)
            write_atomic(file, json.dumps([asdict(one) for one in found]))
        return [Answer(**one) for one in json.loads(file.read_text())]

    def _text(self, text: str) -> tuple[list[int], int]:
        """Return the ids of a neutral text as an answer, and where it begins."""
        asked = render(self.tokenizer, [{"role": "user", "content": "Write a short text."}], True)
        before = self.tokenizer(asked, add_special_tokens=False)["input_ids"]
        return [*before, *self.tokenizer(text, add_special_tokens=False)["input_ids"]], len(before)

    @torch.inference_mode()
    def _drift(self, merged: Any) -> dict[str, Any]:
        """Return KL(base || new) per token and the ratio of perplexities, both over neutral texts."""
        if not self._of_base:
            self._of_base = [self._read(self.base, ids, start) for ids, start in self._texts]
        divergences, rises = [], []
        for (ids, start), old in zip(self._texts, self._of_base, strict=True):
            new = self._read(merged, ids, start)
            divergences.append(float((old.exp() * (old - new)).sum(-1).mean()))
            targets = torch.tensor(ids[start:], device=old.device)[:, None]
            rises.append(float((old.gather(1, targets) - new.gather(1, targets)).mean()))
        rise = mean_interval(rises)
        ratio = {
            name: None if rise[name] is None else math.exp(rise[name]) for name in ("value", "low", "high")
        }
        return {"kl": mean_interval(divergences), "perplexity_ratio": ratio}

    def _read(self, network: Any, ids: Sequence[int], start: int) -> torch.Tensor:
        """Return the log-probabilities of every token at each position of a text, in float32."""
        logits = network(torch.tensor([ids], device=self.device)).logits[0, start - 1 : -1]
        return logits.float().log_softmax(-1)


def _wins(rule: Rule, questions: Sequence[str], new: Sequence[Answer], old: Sequence[Answer]) -> list[float]:
    return [
        rule.better(rule.score(question, a.text), rule.score(question, b.text))
        for question, a, b in zip(questions, new, old, strict=False)
    ]
