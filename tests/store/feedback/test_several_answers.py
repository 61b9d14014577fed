"""Comparisons of three and four answers, and of answers that go on for several turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import pytest

from store.datasets import snapshots
from store.db.database import Store
from store.errors import Invalid
from store.feedback import comparisons, decided, raters, undone_votes
from store.feedback.comparison import branch
from store.feedback.comparisons import Candidate, Comparison
from store.feedback.ranking import read
from store.feedback.vote_details import Details
from store.maintenance.verify import verify
from store.rollout import leaderboard
from store.training_data import demonstrations, likes, pairs
from store.values import Message
from tests.store.feedback.turns import said

TEXTS = ("red", "green stone", "blue sky above", "yellow sun over the hills")


@pytest.fixture(autouse=True)
def _verified(db: Store) -> Iterator[None]:
    yield
    assert verify(db) == []


def compare(db: Store, texts: Sequence[str] = TEXTS, question: str = "Colour?") -> Comparison:
    candidates = [Candidate(text, release=f"rel-{n}") for n, text in enumerate(texts)]
    return comparisons.create(db, said(question), candidates, "assistant")


def by_text(made: Comparison) -> dict[str, str]:
    return {candidate.content: side for side, candidate in made.sides.items()}


def learned(db: Store) -> set[tuple[str, str]]:
    return {(row.pair.chosen[-1].content, row.pair.rejected[-1].content) for row in pairs.list_page(db)}


@pytest.mark.parametrize("count", [3, 4])
def test_an_order_becomes_a_pair_of_each_two_that_are_not_tied(db: Store, count: int) -> None:
    made = compare(db, TEXTS[:count])
    side = by_text(made)
    red, green, *others = TEXTS[:count]
    order = [
        [side[red]],
        [side[green], *(side[text] for text in others[:1])],
        *([side[text]] for text in others[1:]),
    ]
    cast = comparisons.vote(db, made.id, None, "ada", ranking=order)
    assert (cast.choice, len(cast.pairs)) == (side[red], 2 if count == 3 else 5)
    tied = {green, *others[:1]}
    assert learned(db) == {(x, y) for x, y in combinations(TEXTS[:count], 2) if {x, y} != tied}
    (kept,) = comparisons.votes(db, made.id)
    assert kept.places == cast.places
    won = {row.release: (row.wins, row.losses, row.ties) for row in leaderboard.rank(db)}
    assert won["rel-0"] == (count - 1, 0, 0)
    assert won["rel-1"] == (count - 3, 1, 1)


def test_places_are_drawn_at_random(db: Store) -> None:
    found = {compare(db, question=f"{n}?").a.content for n in range(60)}
    assert found == set(TEXTS)


def test_the_best_alone_beats_all_others(db: Store) -> None:
    made = compare(db, TEXTS[:3])
    best = made.more[0].content
    comparisons.vote(db, made.id, "c", "ada")
    assert learned(db) == {(best, text) for text in TEXTS[:3] if text != best}


def test_all_bad_dislikes_each_and_a_tie_teaches_nothing(db: Store) -> None:
    comparisons.vote(db, compare(db).id, "both_bad", "ada")
    comparisons.vote(db, compare(db, question="Again?").id, "tie", "ada")
    assert (pairs.count(db), likes.count(db)["disliked"]) == (0, 4)
    assert {(row.wins, row.ties) for row in leaderboard.rank(db)} == {(0, 6)}


def test_pairs_of_one_order_weigh_as_one_vote(db: Store, tmp_path: Path) -> None:
    made = compare(db)
    side = by_text(made)
    comparisons.vote(db, made.id, None, "ada", ranking=[[side[text]] for text in TEXTS])
    other = compare(db, TEXTS[:2], "Another colour?")
    single = comparisons.vote(db, other.id, "a", "ada").pairs
    snapshots.build(db, tmp_path, "assistant", "dpo", heldout_fraction=0.0, near_duplicates=None)
    found = db.read().execute("select item_id, weight from snapshot_members").fetchall()
    weights = dict(found)
    assert len(weights) == 7
    assert sum(weights.values()) == pytest.approx(2 * weights[single[0]])


def test_equal_answers_make_no_pair_and_contradictions_none(db: Store) -> None:
    made = compare(db, ("same", "other", "same"))
    same = [side for side, candidate in made.sides.items() if candidate.content == "same"]
    (other,) = set(made.sides) - set(same)
    comparisons.vote(db, made.id, None, "ada", ranking=[[same[0]], [other], [same[1]]])
    assert learned(db) == set()
    again = compare(db, ("same", "other", "same"), "Again?")
    comparisons.vote(db, again.id, by_text(again)["other"], "ada")
    assert learned(db) == {("other", "same")}


def test_unsafe_and_rewritten_among_several(db: Store) -> None:
    made = compare(db, TEXTS[:3])
    side = by_text(made)
    order = [[side["red"]], [side["green stone"]], [side["blue sky above"]]]
    details = Details(unsafe=[side["red"]], reasons={"c": ["clear"]})
    comparisons.vote(db, made.id, None, "ada", better="the best", ranking=order, details=details)
    assert learned(db) == {("green stone", "blue sky above"), *(("the best", text) for text in TEXTS[:3])}
    assert (demonstrations.count(db), likes.count(db)["disliked"]) == (1, 1)
    undone_votes.undo(db, made.id, "ada")
    assert (pairs.count(db), demonstrations.count(db), likes.count(db)["disliked"]) == (0, 0, 0)


def test_votes_on_several_are_no_evidence_of_position_or_agreement(db: Store) -> None:
    made = comparisons.create(
        db, said("?"), [Candidate(text) for text in TEXTS[:3]], "assistant", votes_wanted=2
    )
    for rater in ("ada", "bob"):
        comparisons.vote(db, made.id, "c", rater)
    report = raters.report(db)
    assert [(row.agreement, row.share_a, row.share_undecided) for row in report] == [(1.0, None, 0.0)] * 2
    assert raters.alpha(db.read())["comparisons"] == 0
    assert decided.list_decided(db, "assistant") == []


@pytest.mark.parametrize(
    ("choice", "ranking", "field"),
    [
        (None, [["a"], ["b"]], "ranking"),
        (None, [["a"], ["b"], ["b"]], "ranking"),
        (None, [["a", "b", "c"], []], "ranking"),
        (None, [["a"], ["b"], ["d"]], "ranking"),
        ("b", [["a"], ["b"], ["c"]], "choice"),
        ("both_bad", [["a"], ["b"], ["c"]], "choice"),
        ("d", None, "choice"),
        (None, None, "choice"),
    ],
)
def test_a_wrong_order_is_refused_by_field(
    db: Store, choice: str | None, ranking: list[list[str]] | None, field: str
) -> None:
    made = compare(db, TEXTS[:3])
    with pytest.raises(Invalid) as refused:
        comparisons.vote(db, made.id, choice, "ada", ranking=ranking)
    assert refused.value.field == field
    assert comparisons.votes(db, made.id) == []
    with pytest.raises(Invalid, match="strength"):
        comparisons.vote(db, made.id, "a", "ada", details=Details("slightly"))


def test_an_order_of_two_is_a_choice() -> None:
    assert read(None, [["b"], ["a"]], "ab") == read("b", None, "ab")
    assert read(None, [["a", "b"]], "ab") == read("tie", None, "ab")
    assert read(None, [["b"], ["a"]], "ab").column() is None


@pytest.mark.parametrize("count", [1, 5])
def test_as_many_as_can_be_compared(db: Store, count: int) -> None:
    with pytest.raises(Invalid, match="candidates"):
        comparisons.create(db, said("?"), [Candidate(str(n)) for n in range(count)])
    with pytest.raises(Invalid, match="gold"):
        comparisons.create(db, said("?"), [Candidate(str(n)) for n in range(3)], gold="first")


SHORT = (Message("assistant", "Which town?"), Message("user", "Ulm."), Message("assistant", "Rain."))
LONG = (Message("assistant", "It depends."), Message("user", "On what?"), Message("assistant", "On much."))


def test_branches_are_judged_at_the_end_and_learned_whole(db: Store) -> None:
    db.redact = lambda text: text.replace("Ulm", "[town]")
    made = comparisons.create(
        db, said("Weather?"), [branch(SHORT, "rel-1"), branch(LONG, "rel-2")], "assistant"
    )
    shown = made.blind()
    side = by_text(made)["Rain."]
    assert shown[side] == "Rain."
    assert [turn["content"] for turn in shown["branches"][side]] == ["Which town?", "[town].", "Rain."]
    comparisons.vote(db, made.id, side, "ada")
    (row,) = pairs.list_page(db)
    assert [(m.role, m.content) for m in row.pair.chosen] == [
        ("assistant", "Which town?"),
        ("user", "[town]."),
        ("assistant", "Rain."),
    ]
    assert row.pair.rejected == LONG
    assert comparisons.get(db, made.id).sides[side].turns == row.pair.chosen


def test_branches_that_both_are_bad_are_disliked_whole_and_not_rewritten(db: Store) -> None:
    made = comparisons.create(db, said("Weather?"), [branch(SHORT), branch(LONG)], "assistant")
    with pytest.raises(Invalid, match="better"):
        comparisons.vote(db, made.id, "a", "ada", better="Sun.")
    comparisons.vote(db, made.id, "both_bad", "ada")
    assert sorted(len(row["completion"]) for row in likes.list_recent(db)) == [3, 3]


def test_a_branch_begins_and_ends_with_the_assistant(db: Store) -> None:
    with pytest.raises(Invalid, match=r"candidates\[1\].turns"):
        comparisons.create(db, said("?"), [branch(SHORT), branch((*SHORT, Message("user", "Thanks.")))])
