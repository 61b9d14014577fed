"""Pairs from several answers to each prompt: which is preferred to which, by a rule."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.evaluation.rules import sentences, share_followed
from bench.deciding.teach_cases import LESS, length
from bench.training.answers import Answer
from bench.training.jobs import Pair

Score = Callable[[str, str], float]
"""What an answer (second) to a question (first) is worth; more is better."""
Better = Callable[[float, float], float]
"""1 where the first worth is better, 0 where the second is, 1/2 where they are about equal."""


@dataclass(frozen=True)
class Rule:
    """A preference: what an answer is worth, and how far two worths differ to count."""

    score: Score
    better: Better


def _fewer_words(first: float, second: float) -> float:
    """Compare lengths in words, negated, as bench/deciding/teach_cases.py does: a tenth fewer is shorter."""
    if first == second:
        return 0.5
    return 1.0 if -first <= LESS * -second else 0.0 if -second <= LESS * -first else 0.5


def _more(first: float, second: float) -> float:
    return 0.5 if first == second else float(first > second)


def rule_of(name: str, instructions: Mapping[str, Sequence[Mapping[str, Any]]]) -> Rule:
    """Return a rule by name; `instructions` are the rules that go with each question of that set."""
    if name == "shorter":
        return Rule(lambda question, text: -length(text), _fewer_words)
    if name == "no-comma":
        return Rule(lambda question, text: share_followed(text, [{"rule": "comma", "value": False}]), _more)
    return Rule(lambda question, text: share_followed(text, instructions[question]), _more)


ARMS = ("two", "best-worst-4", "best-worst-8", "best-low-8", "best-worst-8-alike", "off-policy")
"""How pairs are made.

* two: the first two answers, as a rater sees them; equal ones make no pair
* best-worst-4, -8: the best against the worst of so many; answers that share nearly all words make no pair
* best-low-8: the best of eight against the one that is better than a quarter of them
* best-worst-8-alike: best-worst-8, but answers that are nearly alike, or of nearly equal worth, make pairs, too
* off-policy: pieces of one to three sentences of the data set's answer, the best against the worst
"""
ALIKE = 0.9
"""Share of common words (Jaccard) from which two answers are nearly alike."""


def make_pair(
    arm: str, rule: Rule, question: str, answers: Sequence[Answer], known: str, rng: random.Random
) -> Pair | None:
    """Return the pair of one question, None where the arm makes none of it. `known` is the data set's answer."""
    if arm == "off-policy":
        answers = [Answer(text, cut=False) for text in pieces(known)]
    else:
        answers = answers[: 2 if arm == "two" else int(arm.split("-")[2])]
    if len(answers) < 2:
        return None
    shuffled = rng.sample(list(answers), len(answers))
    ranked = sorted(shuffled, key=lambda found: rule.score(question, found.text))
    best, other = ranked[-1], ranked[len(ranked) // 4 if arm.startswith("best-low") else 0]
    if best.text == other.text or not best.text or not other.text:
        return None
    worths = rule.score(question, best.text), rule.score(question, other.text)
    if worths[0] == worths[1]:
        return None
    if not arm.endswith("alike"):
        if rule.better(*worths) != 1.0:
            return None
        if arm != "two" and common_words(best.text, other.text) > ALIKE:
            return None
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": best.text}],
        "rejected": [{"role": "assistant", "content": other.text}],
        "chosen_finish_reason": best.finish_reason,
        "rejected_finish_reason": other.finish_reason,
        "weight": 1.0,
    }


def pieces(text: str) -> list[str]:
    """Return the runs of one to three sentences of a text, each once."""
    parts = sentences(text)
    runs = (" ".join(parts[i : i + n]) for n in (1, 2, 3) for i in range(len(parts) - n + 1))
    return list(dict.fromkeys(itertools.islice(runs, 24)))


def common_words(first: str, second: str) -> float:
    """Return the share of words that two texts have in common (Jaccard)."""
    a, b = (set(re.findall(r"\w+", text.lower())) for text in (first, second))
    return len(a & b) / max(1, len(a | b))
