"""Imported pairs and demonstrations: shapes, refusals, pages and counts."""

from __future__ import annotations

import pytest

from store.datasets import new_rows
from store.db.database import Store
from store.errors import Invalid, NotFound
from store.training_data import demonstrations, pairs
from store.values import Message
from tests.store.feedback.turns import said


def test_imports_accept_every_shape_and_refuse_with_reasons(db: Store) -> None:
    rows: list[object] = [
        {"prompt": "Hi", "chosen": "yes", "rejected": "no", "tags": ["b", "a"], "weight": 0.5},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hey"}]}], "chosen": "yes",
         "rejected": [{"role": "assistant", "content": "no"}]},
        {"chosen": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "x"}],
         "rejected": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "y"}]},
        {"prompt": "Hi", "chosen": "yes", "rejected": "no"},
        {"prompt": "Hi", "chosen": "yes"},
        {"prompt": "Hi", "chosen": "yes", "rejected": "yes"},
        {"prompt": "", "chosen": "yes", "rejected": "no"},
        {"prompt": [{"role": "king", "content": "x"}], "chosen": "yes", "rejected": "no"},
        {"prompt": "Hi", "chosen": "yes", "rejected": "no", "weight": 2},
        {"prompt": "Hi\ud800", "chosen": "yes", "rejected": "no"},
        "nonsense",
    ]  # fmt: skip
    result = pairs.import_rows(db, rows, "test", "ada", "assistant")
    assert (result.accepted, result.duplicates, result.rejected_count) == (3, 1, 7)
    assert [r.row for r in result.rejected] == [5, 6, 7, 8, 9, 10, 11]
    assert "rejected" in result.rejected[0].why
    assert "user" in result.rejected[3].why
    again = pairs.import_rows(db, rows, "test", "ada", "assistant")
    assert (again.accepted, again.duplicates) == (0, 4)
    third, second, first = pairs.list_page(db)
    assert first.pair.tags == ("a", "b")
    assert first.pair.weight == 0.5
    assert second.pair.prompt == said("Hey")
    assert third.pair.prompt == said("Q")
    assert third.pair.chosen == (Message("assistant", "x"),)


def test_pages_and_counts_follow_the_deployment(db: Store) -> None:
    for scope in (None, "assistant", "poet"):
        pairs.import_rows(
            db,
            [{"prompt": f"{scope} {n}", "chosen": "long answer", "rejected": "no"} for n in range(3)],
            "test",
            None,
            scope,
        )
    page = pairs.list_page(db, 2, deployment="assistant")
    rest = pairs.list_page(db, 100, after=page[-1].id, deployment="assistant")
    assert len(page) + len(rest) == 6
    assert {p.deployment for p in page + rest} == {None, "assistant"}
    assert (pairs.count(db), pairs.count(db, "poet"), new_rows.count_new(db, "dpo", "poet")) == (9, 6, 6)
    found = pairs.stats(db)
    assert (found["total"], found["by_source"], found["chosen_longer"]) == (9, {"test": 9}, 1.0)
    assert found["by_deployment"] == {"": 3, "assistant": 3, "poet": 3}
    with pytest.raises(NotFound):
        pairs.list_page(db, after="pair-0")
    with pytest.raises(Invalid):
        pairs.list_page(db, 0)


def test_demonstrations_are_imported(db: Store) -> None:
    rows = [
        {"prompt": "Hi", "completion": "Hello."},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"prompt": "Hi", "completion": " "},
    ]
    result = demonstrations.import_rows(db, rows, "test")
    assert (result.accepted, result.duplicates, [r.row for r in result.rejected]) == (1, 1, [3, 4])
    assert demonstrations.stats(db)["total"] == new_rows.count_new(db, "sft", "assistant") == 1
