"""Items of evaluations: kept with whose prompt they are about, and reached by an erasure."""

from __future__ import annotations

from typing import Any

import pytest

from store.db import redaction
from store.db.database import Store
from store.db.rows import fetch_all
from store.errors import NotFound
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.privacy import erasure
from store.rollout import evaluation_items, evaluations, releases
from store.training_data import pairs


def item(reference: str | None, **more: Any) -> dict[str, Any]:
    fields = {"measure": "answer", "cluster": "c", "item": f"{reference} / greedy", "side": "release"}
    return {
        **fields,
        "reference": reference,
        "answer": "Mail bob@example.org",
        "detail": {"kind": "x"},
        **more,
    }


def evaluation(db: Store) -> str:
    return evaluations.create(db, releases.create(db, "assistant", "smol").id).id


def voted(db: Store, question: str, who: str) -> str:
    made = comparisons.create(db, question, [Candidate("good"), Candidate("bad")], "assistant", asked_by=who)
    comparisons.vote(db, made.id, "a", who)
    return pairs.list_page(db)[0].id


def test_items_come_back_in_order_with_their_prompts(db: Store) -> None:
    pair = voted(db, "Why?", "ada")
    ident = evaluation(db)
    given = [item(pair, tokens=3, seconds=0.5, value=-1.25), item("neutral:g01", side="against"), item(pair)]
    assert evaluation_items.record(db, ident, given) == 3
    found = evaluation_items.list_all(db, ident)
    assert [{name: row[name] for name in row if name not in ("seq", "prompt")} for row in found] == [
        {"finish_reason": None, "tokens": None, "seconds": None, "value": None, **one} for one in given
    ]
    assert [row["prompt"] for row in found] == [
        [{"role": "user", "content": "Why?"}],
        None,
        found[0]["prompt"],
    ]
    assert [row["seq"] for row in evaluation_items.list_page(db, ident, after=1, limit=1)] == [2]
    assert [row["seq"] for row in evaluation_items.list_page(db, ident, "answer", "against")] == [2]
    assert evaluation_items.list_page(db, ident, "kl") == []
    assert evaluation_items.record(db, ident, given[:1]) == len(evaluation_items.list_all(db, ident)) == 1


def test_items_of_an_unknown_evaluation_are_refused(db: Store) -> None:
    for call in (evaluation_items.list_all, evaluation_items.list_page):
        with pytest.raises(NotFound):
            call(db, "eval-x")
    with pytest.raises(NotFound):
        evaluation_items.record(db, "eval-x", [])


def test_an_item_about_no_row_of_the_store_is_not_kept(db: Store) -> None:
    """Its text could not be found again when somebody is erased."""
    ident = evaluation(db)
    assert evaluation_items.record(db, ident, [item("pair-gone"), item(None), item("suite:1")]) == 1


def test_answers_are_redacted_as_everything_that_is_stored(db: Store) -> None:
    db.redact = redaction.redactor(["email"])
    ident = evaluation(db)
    evaluation_items.record(db, ident, [item("neutral:g01")])
    assert evaluation_items.list_all(db, ident)[0]["answer"] == "Mail [email]"


def test_an_erasure_takes_the_items_about_their_prompts_and_no_others(db: Store) -> None:
    hers, his = voted(db, "What only ada asks", "ada"), voted(db, "What bob asks", "bob")
    ident = evaluation(db)
    evaluation_items.record(
        db, ident, [item(hers), item(his), item("neutral:g01"), item(hers, measure="heldout")]
    )
    assert erasure.preview(db, "ada").removed["evaluation_items"] == 2
    assert erasure.erase_person(db, "ada").removed["evaluation_items"] == 2
    left = fetch_all(db.read(), "select reference from evaluation_items order by seq")
    assert [row["reference"] for row in left] == [his, "neutral:g01"]
    # what is measured on her words after that is not kept either
    assert evaluation_items.record(db, ident, [item(hers), item(his)]) == 1
