"""Rows are searched, left out with a reason, approved and taken back; nothing trains on an excluded row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from store.accounts import audit
from store.datasets import new_rows, snapshots
from store.db.database import Store
from store.errors import Invalid, NotFound
from store.feedback import comparisons
from store.feedback.comparisons import Candidate, Comparison
from store.maintenance.verify import verify
from store.privacy import erasure
from store.training_data import (
    curation,
    demonstrations,
    likes,
    pairs,
    removal,
    row_lineage,
    row_report,
    row_search,
    saved_views,
)
from store.training_data.row_search import Search
from store.transfer.export_file import export
from store.transfer.export_filter import Filter


def imported(db: Store, *asked: str, **extra: Any) -> list[str]:
    """Import a pair per question; return the ids, in the same order."""
    rows = [{"prompt": text, "chosen": f"yes {text}", "rejected": f"no {text}", **extra} for text in asked]
    pairs.import_rows(db, rows, "test")
    return [row.id for row in reversed(pairs.list_page(db, limit=len(asked)))]


def voted(db: Store, question: str = "Which moon?") -> tuple[Comparison, str]:
    """A comparison whose short answer ada prefers (sides are random), and the pair of it."""
    made = comparisons.create(db, question, [Candidate("ours"), Candidate("none " * 30)])
    return made, comparisons.vote(db, made.id, short_side(made), "ada").pairs[0]


def short_side(made: Comparison) -> str:
    return "a" if made.a.content == "ours" else "b"


def ids(db: Store, **wanted: Any) -> list[str]:
    return [row.id for row in row_search.search(db, "pairs", Search(**wanted)).rows]


def test_an_excluded_row_is_in_no_training_set_or_export_until_it_is_restored(
    db: Store, tmp_path: Path
) -> None:
    rows = imported(db, *(f"question {n}" for n in range(6)))
    bad = rows[0]

    def taken(name: str) -> tuple[int, int, int]:
        made = snapshots.build(db, tmp_path, "assistant", "dpo", near_duplicates=None)
        exported = export(db, tmp_path / name, "pairs", "trl", Filter())
        return made.train_rows + made.heldout_rows, exported, new_rows.count_all(db, "dpo", "assistant")

    assert taken("before") == (6, 6, 6)
    assert curation.review(db, "pairs", [bad], "excluded", "It is wrong", "ada") == 1
    assert taken("without") == (5, 5, 5)
    assert "question 0" not in (tmp_path / "without").read_text()
    report = snapshots.list_all(db)[0].report
    assert report["dropped"]["excluded by an operator"] == 1
    assert ids(db, state="excluded") == [bad]
    assert verify(db) == []
    assert curation.review(db, "pairs", [bad], None, "It is right after all", "bob") == 1
    assert taken("after") == (6, 6, 6)
    entries = [row for row in audit.list_recent(db) if row.subject == bad]
    assert [(row.action, row.actor, row.detail["reason"]) for row in entries] == [
        ("pair.restore", "bob", "It is right after all"),
        ("pair.exclude", "ada", "It is wrong"),
    ]


@pytest.mark.parametrize(("noun", "method"), [("demonstrations", "sft"), ("likes", "kto")])
def test_excluded_demonstrations_and_likes_are_left_out_too(
    db: Store, tmp_path: Path, noun: str, method: str
) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"q {n}", "completion": "a", "label": True} for n in range(3)]
    if noun == "likes":
        likes.import_rows(db, rows, "test")
    else:
        demonstrations.import_rows(
            db, [{k: v for k, v in row.items() if k != "label"} for row in rows], "test"
        )
    (first, *_) = [row.id for row in row_search.search(db, noun, Search()).rows]
    curation.review(db, noun, [first], "excluded", "wrong", "ada")
    assert snapshots.build(db, tmp_path, "assistant", method, 0.0, near_duplicates=None).train_rows == 2
    assert export(db, tmp_path / "rows", noun, "trl", Filter()) == 2
    assert row_search.get(db, noun, first).responses["completion"][0]["content"] == "a"
    assert row_lineage.of_row(db, noun, first)["imported"]["source"] == "test"


def test_reviews_change_all_rows_or_none_and_say_what_is_wrong(db: Store) -> None:
    first, second = imported(db, "one", "two")
    with pytest.raises(NotFound):
        curation.review(db, "pairs", [first, "pair-none"], "excluded", "why", "ada")
    assert ids(db, state="excluded") == []
    for wrong in ({"state": "gone"}, {"reason": " "}, {"noun": "votes"}):
        given: dict[str, Any] = {"noun": "pairs", "state": "excluded", "reason": "why", **wrong}
        with pytest.raises(Invalid, match=next(iter(wrong))):
            curation.review(db, given["noun"], [first], given["state"], given["reason"], "ada")
    assert curation.review(db, "pairs", [first, second, first], "approved", "good", "ada") == 2
    assert curation.review(db, "pairs", [first], "approved", "good", "ada") == 0, "nothing changed"
    assert curation.review(db, "pairs", [first], "excluded", "bad", "bob") == 1
    reviewed = [row.review for row in row_search.search(db, "pairs", Search()).rows]
    assert [row.state for row in reviewed if row] == ["approved", "excluded"]
    removal.remove(db, "pairs", first, "gone", "ada")
    assert curation.reviews(db, [first]) == {}


def test_rows_are_found_by_each_filter(db: Store) -> None:
    german = imported(db, "Wie funktionieren eigentlich die Gezeiten des Meeres?", tags=["sea"])
    english = imported(db, "How do the tides of the ocean actually work today?")
    long = imported(db, "x" * 500)
    _, vote = voted(db)
    assert ids(db, where=Filter(rater="ada")) == [vote]
    assert ids(db, text="TIDES actually") == english
    assert ids(db, text="gezeiten tides") == []
    assert ids(db, language="de") == german
    assert ids(db, source="vote") == [vote]
    assert ids(db, where=Filter(tag="sea")) == german
    assert ids(db, min_chars=400) == long
    assert ids(db, max_chars=4) == [vote]
    curation.review(db, "pairs", english, "approved", "good", "ada")
    assert ids(db, state="unreviewed") == [vote, *long, *german]
    with pytest.raises(Invalid, match="state"):
        ids(db, state="odd")
    with pytest.raises(Invalid, match="language"):
        row_search.matching(db, "pairs", Search(language="de"))


def test_agreement_is_searched_from_below_and_above(db: Store) -> None:
    alone = imported(db, "one")
    made = comparisons.create(db, "Which?", [Candidate("ours"), Candidate("none")], votes_wanted=2)
    for rater, choice in (("ada", "a"), ("bob", "b")):
        comparisons.vote(db, made.id, choice, rater)
    divided = ids(db, source="vote")
    assert len(divided) == 2
    assert ids(db, max_agreement=0.5) == divided
    assert ids(db, where=Filter(min_agreement=0.6)) == alone
    assert row_report.report(db, "pairs", Search())["agreement"] == [2, *[0] * 9]


@pytest.mark.parametrize("wanted", [Search(), Search(language="en")])
def test_pages_go_on_where_the_last_one_ended(
    db: Store, monkeypatch: pytest.MonkeyPatch, wanted: Search
) -> None:
    rows = imported(db, *(f"question {n}" for n in range(5)))
    monkeypatch.setattr(row_search, "_BATCH", 2)
    monkeypatch.setattr("py3langid.classify", lambda text: ("en", 1.0))
    seen: list[str] = []
    after = None
    while len(seen) <= 5:
        page = row_search.search(db, "pairs", wanted, limit=2, after=after)
        seen += [row.id for row in page.rows]
        if (after := page.next) is None:
            break
    assert seen == rows[::-1]
    assert page.total == (None if wanted.language else 5)


def test_a_row_names_what_is_behind_it_and_what_holds_it(db: Store, tmp_path: Path) -> None:
    made, pair = voted(db)
    curation.review(db, "pairs", [pair], "approved", "good", "bob")
    snapshot = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0)
    found = row_lineage.of_row(db, "pairs", pair)
    (vote,) = found["evidence"]
    assert (vote["kind"], vote["person"], vote["comparison"], vote["choice"]) == (
        "vote", "ada", made.id, short_side(made),
    )  # fmt: skip
    assert found["imported"] is None
    assert [row["id"] for row in found["snapshots"]] == [snapshot.id]
    assert [(row["action"], row["reason"]) for row in found["history"]] == [("pair.approve", "good")]
    assert found["people"] == ["ada"]
    (row,) = imported(db, "one")
    assert row_lineage.of_row(db, "pairs", row)["imported"]["source"] == "test"
    with pytest.raises(NotFound):
        row_lineage.of_row(db, "pairs", "pair-none")


def test_report_counts_what_the_search_finds(db: Store, tmp_path: Path) -> None:
    imported(db, "one", "two")
    voted(db)
    curation.review(db, "pairs", ids(db, source="test")[:1], "excluded", "bad", "ada")
    snapshot = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0)
    found = row_report.report(db, "pairs", Search())
    assert found["rows"] == 3
    assert {row["name"]: row["rows"] for row in found["sources"]} == {"test": 2, "vote": 1}
    assert found["lengths"]["chosen"] == [3, *[0] * 8]
    assert found["lengths"]["rejected"] == [2, 0, 1, *[0] * 6]
    assert found["chosen_longer"] == pytest.approx(2 / 3)
    assert {row["name"]: row["rows"] for row in found["states"]} == {"unreviewed": 2, "excluded": 1}
    assert found["people"] == [{"name": "ada", "rows": 1}]
    assert {"name": "excluded by an operator", "rows": 1} in found["left_out"]
    assert found["snapshot"] == snapshot.id
    assert row_report.report(db, "pairs", Search(source="vote"))["rows"] == 1
    assert row_report.report(db, "likes", Search())["rows"] == 0


def test_views_are_kept_replaced_and_removed(db: Store) -> None:
    saved_views.save(db, "short", "pairs", {"max_chars": 20}, "ada")
    saved_views.save(db, "short", "likes", {"max_chars": 30}, "bob")
    (view,) = saved_views.list_all(db)
    assert (view.noun, view.filters, view.created_by) == ("likes", {"max_chars": 30}, "bob")
    saved_views.remove(db, "short", "ada")
    with pytest.raises(NotFound):
        saved_views.remove(db, "short", "ada")
    with pytest.raises(Invalid, match="name"):
        saved_views.save(db, " ", "pairs", {}, "ada")


def test_an_erased_person_leaves_no_name_in_reviews_and_views(db: Store) -> None:
    _, pair = voted(db)
    (row,) = imported(db, "one")
    curation.review(db, "pairs", [pair, row], "approved", "good", "ada")
    saved_views.save(db, "mine", "pairs", {}, "ada")
    erasure.erase_person(db, "ada", actor="bob")
    assert curation.reviews(db, [pair]) == {}
    assert curation.reviews(db, [row])[row].actor != "ada"
    assert "ada" not in json.dumps([view.to_json() for view in saved_views.list_all(db)])
    assert verify(db) == []
