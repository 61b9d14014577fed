"""Comparisons that people decided, as a judge is held against them."""

from __future__ import annotations

from store.db.database import Store
from store.feedback import comparisons, decided
from store.feedback.comparisons import Candidate


def test_majority_of_votes_decides(db: Store) -> None:
    def compared(question: str, *choices: str, wanted: int | None = None) -> str:
        made = comparisons.create(
            db, question, [Candidate("x"), Candidate("y")], "assistant", votes_wanted=wanted or len(choices)
        )
        for number, choice in enumerate(choices):
            comparisons.vote(db, made.id, choice, f"rater{number}")
        return made.id

    first = compared("One?", "a", "b", "a")
    second = compared("Two?", "a", "b")
    third = compared("Three?", "both_bad")
    compared("Four?", "b", wanted=2)
    found = decided.list_decided(db, "assistant")
    assert [(row["id"], row["verdict"]) for row in found] == [(third, "tie"), (second, "tie"), (first, "a")]
    assert {row["a"] for row in found} | {row["b"] for row in found} == {"x", "y"}
    assert found[0]["messages"] == [{"role": "user", "content": "Three?"}]
    assert decided.list_decided(db, "other") == []
