"""What a rater (or an import) teaches in each case of `bench.deciding.teach`, and the verdicts that are right for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Ballot = dict[str, Any]

TEMPERATURE, TOP_P, MAX_TOKENS = 0.7, 0.95, 128
"""The sampling of the releases that the benches ask."""

LESS = 0.9
"""An answer counts as shorter with at most this share of the other's words; otherwise both are alike."""

STABLE, NEVER_STABLE, REJECTED = {"stable"}, {"rejected", "canary"}, {"rejected"}


def words(text: str) -> int:
    return len(text.split())


def length(text: str) -> float:
    """Return the words of an answer; one that was cut in mid-sentence is longer than any that came to an end."""
    return words(text) if text.rstrip()[-1:] in tuple(".!?:;)]}*`\"'") else float("inf")


def shorter(a: str, b: str) -> float:
    """Return 1 where `a` is the shorter answer, 0 where `b` is, 1/2 where they are about as long."""
    first, second = length(a), length(b)
    if first == second:
        return 0.5
    return 1.0 if first <= LESS * second else 0.0 if second <= LESS * first else 0.5


def vote_shorter(comparison: Mapping[str, Any], rng: random.Random) -> Ballot:
    return {"choice": {1.0: "a", 0.0: "b", 0.5: "tie"}[shorter(comparison["a"], comparison["b"])]}


def vote_longer(comparison: Mapping[str, Any], rng: random.Random) -> Ballot:
    return {"choice": {"a": "b", "b": "a", "tie": "tie"}[vote_shorter(comparison, rng)["choice"]]}


def vote_by_coin(comparison: Mapping[str, Any], rng: random.Random) -> Ballot:
    return {"choice": rng.choice("ab")}


def vote_repetition(comparison: Mapping[str, Any], rng: random.Random) -> Ballot:
    """Vote for an answer and rewrite it as its first words, again and again."""
    phrase = " ".join(comparison["a"].split()[:8]) or "again and again"
    return {"choice": rng.choice("ab"), "better": " ".join([phrase] * 12)}


def garbage(question: str, rng: random.Random) -> dict[str, str]:
    """Return a demonstration that answers with random syllables."""
    syllables = ("ka", "ro", "mi", "tex", "ul", "vor", "zin", "pe", "qua", "lod", "##", "0x", "ne", "sti")
    salad = ("".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(40))
    return {"prompt": question, "completion": " ".join(salad)}


@dataclass(frozen=True)
class Case:
    """One thing to teach. `suite` is the gate's suite, as TOML; without it the default one judges."""

    expected: set[str]
    vote: Callable[[Mapping[str, Any], random.Random], Ballot] | None = None
    demonstrate: Callable[[str, random.Random], dict[str, str]] | None = None
    system_prompt: str | None = None
    win_rate: float | None = None
    added_to_suite: str = ""


PREFER_SHORTER = """
[[measurements]]
kind = "win_rate"
prefer = "shorter"
"""

CASES = {
    "shorter": Case(STABLE, vote_shorter, win_rate=0.8),
    "system-prompt": Case(
        STABLE,
        vote_shorter,
        win_rate=0.8,
        system_prompt="You are Ada, the assistant of a small library. Help its visitors in plain words.",
    ),
    "coin": Case(NEVER_STABLE, vote_by_coin),
    "flipped": Case(REJECTED, vote_longer, added_to_suite=PREFER_SHORTER),
    "repetition": Case(REJECTED, vote_repetition),
    "garbage": Case(REJECTED, demonstrate=garbage),
}
