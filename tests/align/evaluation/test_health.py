"""Repetition, refusals and drift of single texts."""

from __future__ import annotations

import math

import pytest

from align.evaluation import neutral
from align.evaluation.drift import coarse_kl
from align.evaluation.health import refuses, rep4


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("a b c", 0, 0),
        ("one two three four five six", 0, 0),
        ("one two three four one two three four", 0.19, 0.21),
        ("the same thing " * 40, 0.9, 1),
        ("ha" * 500, 0.7, 1),
        ("你好世界" * 30, 0.9, 1),
        ("!?" * 50, 0.9, 1),
    ],
)
def test_rep4_is_the_share_of_repeated_four_grams(text: str, low: float, high: float) -> None:
    assert low <= rep4(text) <= high


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m not able to assist with this request.",
        "As an AI language model, I cannot say.",
        "Sorry, that is against my guidelines.",
        "Ich kann dir dabei leider nicht helfen.",
        "Lo siento, no puedo ayudarte.",
    ],
)
def test_refusals_are_seen(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "To kill a process, run `kill -9 PID`.",
        "You can't go wrong with rice, eggs and spinach.",
        "A lake is large. " * 20 + "I cannot say more.",
        "",
    ],
)
def test_answers_are_no_refusals(text: str) -> None:
    assert not refuses(text)


def test_no_text_of_the_neutral_set_is_taken_for_repetition_or_a_refusal() -> None:
    assert all(rep4(entry.text) < 0.05 and not refuses(entry.text) for entry in neutral.entries())


def test_the_neutral_set_has_enough_of_each_kind_and_every_id_once() -> None:
    found = neutral.entries()
    assert len({entry.id for entry in found}) == len({entry.text for entry in found}) == len(found) == 90
    counts = {kind: len(neutral.draw(kind, 100, "")) for kind in neutral.KINDS}
    assert counts == {"general": 36, "harmless": 20, "safety": 10, "text": 24}
    assert neutral.draw("general", 5, "a") != neutral.draw("general", 5, "b")


def test_coarse_kl_is_the_divergence_over_shared_tokens_and_a_rest() -> None:
    p, q = {1: math.log(0.5), 2: math.log(0.3)}, {1: math.log(0.25), 3: math.log(0.5)}
    by_hand = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert coarse_kl(p, q) == pytest.approx(by_hand)
    assert coarse_kl(p, p) == 0.0
    assert coarse_kl({1: 0.0}, {2: 0.0}) == pytest.approx(
        0.0, abs=1e-6
    )  # nothing is shared: nothing is known
