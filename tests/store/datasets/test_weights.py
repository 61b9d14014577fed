"""Weights: how sure the votes make us, with near-duplicate questions counted together and one click as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from store.datasets import snapshots
from store.db.database import Store
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.training_data import pairs

QUESTION = "Which bird sings in the old oak tree behind the church on a summer morning before the sun is up"


def vote(
    db: Store, prompt: str, best: str, raters: int = 1, better: str | None = None, first: int = 0
) -> None:
    made = comparisons.create(
        db, prompt, [Candidate("A wren."), Candidate("An owl.")], "assistant", votes_wanted=raters
    )
    side = "a" if made.a.content == best else "b"
    for n in range(raters):
        comparisons.vote(db, made.id, side, f"rater {first + n}", better=better)


def train(db: Store, tmp_path: Path, **settings: Any) -> list[dict[str, Any]]:
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, **settings)
    rows: list[dict[str, Any]] = pq.read_table(Path(made.directory) / "train.parquet").to_pylist()
    return rows


def test_more_votes_weigh_more(db: Store, tmp_path: Path) -> None:
    prompts = {1: "Bird?", 3: "What flies here?", 9: "Name an animal of the night"}
    for raters, prompt in prompts.items():
        vote(db, prompt, "A wren.", raters)
    weights = {row["prompt"][0]["content"]: row["weight"] for row in train(db, tmp_path)}
    assert {n: weights[prompt] for n, prompt in prompts.items()} == pytest.approx(
        {1: 1 / 3, 3: 3 / 5, 9: 9 / 11}
    )
    assert len(train(db, tmp_path, min_weight=1.0)) == 3, (
        "min_weight is the margin of agreement, not confidence"
    )


def test_opposite_votes_on_near_duplicate_questions_are_counted_together(db: Store, tmp_path: Path) -> None:
    vote(db, QUESTION, "A wren.", 3)
    vote(db, QUESTION + " today", "An owl.", 1)
    [row] = train(db, tmp_path)
    assert row["chosen"][0]["content"] == "A wren."
    assert row["weight"] == pytest.approx((3 - 1) / (4 + 2))
    assert len(train(db, tmp_path, near_duplicates=None)) == 2


def test_near_duplicate_questions_on_which_raters_are_divided_are_left_out(db: Store, tmp_path: Path) -> None:
    vote(db, "What else?", "A wren.")
    for n in range(5):
        vote(db, QUESTION + " today" * (n % 2), "A wren." if n % 2 else "An owl.", 1, first=n)
    vote(db, QUESTION + " today", "A wren.", first=9)
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0)
    assert made.train_rows == 1
    assert made.report["dropped"] == {"raters were divided": 2}


def test_of_near_duplicates_the_one_with_most_votes_stays(db: Store, tmp_path: Path) -> None:
    for n in range(4):
        vote(db, QUESTION + " x" * n, "A wren.", 4 if n == 2 else 1)
    [row] = train(db, tmp_path)
    assert row["prompt"][0]["content"] == QUESTION + " x" * 2
    assert row["weight"] == pytest.approx(7 / 9)


def test_turns_of_a_conversation_are_not_one_question(db: Store, tmp_path: Path) -> None:
    opposite = [
        ([{"role": "user", "content": "Bird?"}], "yes", "no"),
        (
            [
                {"role": "user", "content": "Bird?"},
                {"role": "assistant", "content": "Which one do you mean?"},
                {"role": "user", "content": "The small brown one that lives in the hedge."},
            ],
            "no",
            "yes",
        ),
    ]
    pairs.import_rows(db, [{"messages": p, "chosen": a, "rejected": b} for p, a, b in opposite], "test")
    assert len(train(db, tmp_path)) == 2


def test_a_vote_with_a_rewrite_weighs_as_one_vote(db: Store, tmp_path: Path) -> None:
    vote(db, "Bird?", "A wren.", better="It is a wren, by its song.")
    vote(db, "What is this?", "A wren.")
    weights: dict[str, float] = {}
    for row in train(db, tmp_path):
        prompt = row["prompt"][0]["content"]
        weights[prompt] = weights.get(prompt, 0) + row["weight"]
    assert len(train(db, tmp_path)) == 4
    assert weights["Bird?"] == pytest.approx(weights["What is this?"])


def test_a_rewrite_that_hardly_changes_an_answer_makes_no_pair_with_it(db: Store) -> None:
    made = comparisons.create(
        db, "Bird?", [Candidate("A wren, I think so!"), Candidate("An owl.")], "assistant"
    )
    side = "a" if made.a.content.startswith("A wren") else "b"
    done = comparisons.vote(db, made.id, side, "ada", better="A wren, I think so.")
    found = [
        (p.pair.chosen[0].content, p.pair.rejected[0].content)
        for p in (pairs.get(db, id) for id in done.pairs)
    ]
    assert found == [("A wren, I think so!", "An owl."), ("A wren, I think so.", "An owl.")]
    assert done.demonstration is not None
