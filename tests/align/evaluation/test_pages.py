"""The report for people: where intervals stand, answers side by side, and texts that try to break out."""

from __future__ import annotations

from typing import Any

import pytest

from align.evaluation.reports.pages import WIDTH, estimate, interval_bar, markdown, page, side_by_side


def found(value: float, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 9, **more}


REPORT = {
    "suite": "default",
    "release": "x@2",
    "against": "x@1",
    "rows": 3,
    "measures": {
        "reward_accuracy": {"release": found(0.8, 0.6, 0.9)},
        "rep4": {"release": found(0.1, 0, 0.2), "difference": found(0.1, 0.05, 0.2)},
        "kl": {"release": found(0.2, None, None)},
        "judge_win_rate": {"unproven": found(0.5, 0.4, 0.6, why="49 comparisons")},
    },
}


def answer(side: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "measure": "answer", "item": "i", "side": side, "answer": text, "finish_reason": "length", "tokens": 7,
        "seconds": 1.25, "value": None, "detail": {"kind": "heldout", "sampling": "seed 1"},
        "prompt": [{"role": "user", "content": "Why?"}],
    } | more  # fmt: skip


def test_answers_to_one_prompt_stand_side_by_side_with_who_won() -> None:
    won = {"measure": "win", "item": "i", "side": "release", "value": 1.0, "detail": {}}
    items = [answer("release", "A"), answer("against", "B"), won, won | {"measure": "judge", "value": 0.5}]
    (pair,) = side_by_side(items)
    assert pair.release is not None
    assert pair.against is not None
    assert (pair.release.text, pair.against.text) == ("A", "B")
    assert pair.release.facts == "length, 7 tokens, 1.2 s"
    assert pair.won == "new release won by rules, tie by judge"
    assert pair.prompt == "user: Why?"


def test_a_page_has_every_measure_and_says_why_a_judge_does_not_count() -> None:
    html, text = (make(REPORT, [answer("release", "A")]) for make in (page, markdown))
    for name in REPORT["measures"]:  # type: ignore[attr-defined]
        assert name.replace("_", " ") in html
        assert name.replace("_", " ") in text
    assert "does not count: 49 comparisons" in html
    assert "0.8 (0.6 to 0.9, n=9)" in html
    assert page({"release": "x@1", "measures": {}}, []).count("<table") == 0


@pytest.mark.parametrize(
    ("name", "sides", "kind", "value"),
    [
        ("rep4", {"difference": found(0.1, 0.05, 0.2)}, "bad", None),
        ("rep4", {"difference": found(-0.1, -0.2, -0.05)}, "good", None),
        ("instruction_following", {"difference": found(0.0, -0.1, 0.1)}, "neutral", WIDTH / 2),
        ("win_rate", {"release": found(0.5, 0.4, 0.6)}, "neutral", WIDTH / 2),
        ("reward_accuracy", {"release": found(0.8, 0.6, 0.9)}, "good", None),
        ("perplexity_ratio", {"release": found(1.2, 1.1, 1.3)}, "bad", None),
        ("length_ratio", {"release": found(1.2, 1.1, 1.3)}, "neutral", None),
    ],
)
def test_an_interval_is_drawn_around_no_difference(
    name: str, sides: dict[str, Any], kind: str, value: float | None
) -> None:
    drawn = interval_bar(name, sides)
    assert drawn is not None
    assert drawn["class"] == kind
    assert 0 <= drawn["low"] <= drawn["value"] <= drawn["high"] <= WIDTH
    assert value is None or drawn["value"] == value


def test_what_has_no_interval_or_nothing_to_compare_with_is_not_drawn() -> None:
    assert interval_bar("rep4", {"release": found(0.1, 0, 0.2)}) is None
    assert interval_bar("win_rate", {"release": found(0.1, None, None)}) is None
    assert estimate(found(0.1, None, None)) == "0.1 (n=9)"
    assert estimate(None) == ""


def test_texts_of_models_break_out_of_neither_form() -> None:
    hostile = "```\n# title\n</p><img src=x onerror=alert(1)> | {{ 7 * 7 }}"
    items = [answer("release", hostile), answer("against", hostile)]
    html, text = page(REPORT, items), markdown(REPORT, items)
    assert "<img" not in html
    assert "{{ 7 * 7 }}" in html
    assert text.count(f"````text\n{hostile}\n````") == 2
