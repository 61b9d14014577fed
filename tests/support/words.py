"""Sentences of few words: a tiny model's tokenizer knows them all."""

from __future__ import annotations

import random

WORDS = (
    "the",
    "river",
    "ship",
    "wind",
    "turns",
    "slowly",
    "under",
    "bright",
    "sails",
    "calm",
    "deep",
    "water",
)


def sentence(rng: random.Random, words: int) -> str:
    """Return that many words, drawn at random."""
    return " ".join(rng.choice(WORDS) for _ in range(words))
