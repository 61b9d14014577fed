"""Votes that are taken back, what votes say beside their choice, and comparisons left undecided."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from store.accounts import audit
from store.db.database import Store
from store.db.rows import scalar
from store.errors import Conflict, Invalid, NotFound
from store.feedback import comparisons, leases, rater_history, raters, rating_queue, skips, undone_votes
from store.feedback.comparisons import Candidate, Comparison
from store.feedback.vote_details import Details
from store.maintenance.verify import verify
from store.privacy import erasure
from store.rollout import leaderboard
from store.training_data import demonstrations, likes, pairs
from tests.store.feedback.turns import said


@pytest.fixture(autouse=True)
def _verified(db: Store) -> Iterator[None]:
    yield
    assert verify(db) == []


def compare(db: Store, question: str = "Hi?", **facts: object) -> Comparison:
    candidates = [Candidate("short", release="rel-1"), Candidate("a longer one", release="rel-2")]
    return comparisons.create(db, said(question), candidates, "assistant", **facts)  # type: ignore[arg-type]


def weights(db: Store) -> list[float]:
    return [row.pair.weight for row in pairs.list_page(db)]


def test_a_vote_taken_back_leaves_no_row_and_the_comparison_waits_again(db: Store) -> None:
    made = compare(db)
    comparisons.vote(db, made.id, "a", "ada", better="the best answer of all", tags=["clear"])
    assert (pairs.count(db), demonstrations.count(db)) == (3, 1)
    undone = undone_votes.undo(db, made.id, "ada")
    assert (undone.choice, undone.rater, undone.releases) == ("a", "ada", ())
    assert (pairs.count(db), demonstrations.count(db)) == (0, 0)
    assert comparisons.votes(db, made.id) == []
    assert leaderboard.rank(db) == []
    again = comparisons.get(db, made.id)
    assert (again.state, again.votes_given, again.decided_at) == ("open", 0, None)
    (entry,) = audit.list_recent(db)
    assert (entry.action, entry.actor, entry.subject) == ("vote.undo", "ada", undone.id)
    assert [row["id"] for row in undone_votes.list_recent(db, "ada")] == [undone.id]
    with pytest.raises(NotFound, match="vote"):
        undone_votes.undo(db, made.id, "ada")


def test_both_bad_taken_back_leaves_no_dislike(db: Store) -> None:
    made = compare(db)
    comparisons.vote(db, made.id, "both_bad", "ada")
    assert likes.count(db)["disliked"] == 2
    undone_votes.undo(db, made.id, "ada")
    assert likes.count(db)["disliked"] == 0


def test_rows_that_another_vote_supports_stay_with_its_tags_and_weight(db: Store) -> None:
    made = compare(db, votes_wanted=2)
    comparisons.vote(db, made.id, "a", "ada", tags=["first"])
    comparisons.vote(db, made.id, "a", "bob", tags=["second"], details=Details("slightly"))
    assert weights(db) == [0.75]
    undone_votes.undo(db, made.id, "ada")
    (row,) = pairs.list_page(db)
    assert (row.pair.weight, row.pair.tags) == (0.5, ("second",))
    assert comparisons.get(db, made.id).votes_given == 1


def test_what_is_taken_back_is_before_its_rater_and_nobody_else(db: Store) -> None:
    made = compare(db)
    comparisons.vote(db, made.id, "a", "ada")
    undone_votes.undo(db, made.id, "ada")
    assert rating_queue.next_unvoted(db, "bob") is None
    found = rating_queue.next_unvoted(db, "ada")
    assert found is not None
    assert found.id == made.id
    assert made.id in leases.of(db).held("bob")


def test_a_vote_in_the_place_of_one_taken_back_trains_and_counts_for_no_gold_question(db: Store) -> None:
    gold = compare(db, gold="first")
    right, wrong = (gold.gold, "b" if gold.gold == "a" else "a")
    comparisons.vote(db, gold.id, str(wrong), "ada")
    undone_votes.undo(db, gold.id, "ada")
    assert comparisons.vote(db, gold.id, str(right), "ada").revised
    (report,) = raters.report(db)
    assert (report.gold_right, report.gold_total) == (0, 0)
    made = compare(db, "Another?")
    comparisons.vote(db, made.id, "b", "ada")
    undone_votes.undo(db, made.id, "ada")
    cast = comparisons.vote(db, made.id, "a", "ada")
    assert cast.revised
    assert len(cast.pairs) == 1
    assert [vote.revised for vote in comparisons.votes(db, made.id)] == [True]


@pytest.mark.parametrize(("strength", "weight"), [(None, 1.0), ("slightly", 0.25), ("clearly", 1.0)])
def test_slightly_better_weighs_less_in_training(db: Store, strength: str | None, weight: float) -> None:
    db.slight_weight = 0.25
    made = compare(db)
    comparisons.vote(db, made.id, "a", "ada", better="the best answer of all", details=Details(strength))
    by_source = {row.source: row.pair.weight for row in pairs.list_page(db)}
    assert by_source == {"vote": weight, "rewrite": 1.0}


def test_an_unsafe_answer_is_disliked_and_never_preferred(db: Store) -> None:
    made = compare(db)
    cast = comparisons.vote(db, made.id, "a", "ada", details=Details(unsafe=["a"]))
    assert cast.pairs == ()
    assert likes.list_recent(db)[0]["completion"][0]["content"] == made.a.content
    assert likes.count(db) == {"liked": 0, "disliked": 1}
    other = compare(db, "Another?")
    cast = comparisons.vote(db, other.id, "a", "ada", details=Details(unsafe=["b"]))
    assert len(cast.pairs) == 1
    assert likes.count(db) == {"liked": 0, "disliked": 2}
    assert [row["id"] for row in rater_history.list_votes(db, unsafe=True)] == [
        cast.id,
        comparisons.votes(db, made.id)[0].id,
    ]


def test_details_of_a_vote_are_kept_redacted(db: Store) -> None:
    db.redact = lambda text: text.replace("ada@example.org", "[email]")
    made = compare(db)
    details = Details(
        "clearly", {"a": ["clear", "clear "], "b": ["by ada@example.org"]}, "ask ada@example.org", ["b"]
    )
    comparisons.vote(db, made.id, "a", "ada", details=details)
    (kept,) = comparisons.votes(db, made.id)
    assert kept.strength == "clearly"
    assert kept.reasons == {"a": ("clear",), "b": ("by [email]",)}
    assert (kept.comment, kept.unsafe) == ("ask [email]", ("b",))
    (listed,) = rater_history.list_votes(db, "ada")
    assert (listed["asked"], listed["reasons"], listed["comment"]) == ("Hi?", kept.reasons, "ask [email]")


@pytest.mark.parametrize(
    ("choice", "details", "field"),
    [
        ("a", Details("very"), "strength"),
        ("tie", Details("slightly"), "strength"),
        ("a", Details(reasons={"e": ["x"]}), "reasons"),
        ("a", Details(reasons={"a": [" "]}), "reasons.a"),
        ("a", Details(reasons={"b": [str(n) for n in range(21)]}), "reasons.b"),
        ("a", Details(comment="x" * 10_001), "comment"),
        ("a", Details(unsafe=["both"]), "unsafe"),
    ],
)
def test_wrong_details_are_refused_by_field_and_nothing_is_stored(
    db: Store, choice: str, details: Details, field: str
) -> None:
    made = compare(db)
    with pytest.raises(Invalid) as refused:
        comparisons.vote(db, made.id, choice, "ada", details=details)
    assert refused.value.field == field
    assert comparisons.votes(db, made.id) == []


def test_what_is_skipped_for_a_reason_goes_to_others(db: Store) -> None:
    made = compare(db)
    assert rating_queue.next_unvoted(db, "ada") is not None
    for reason in ("too long", "not my language"):
        skips.skip(db, made.id, "ada", reason, comment=" ")
    assert rating_queue.next_unvoted(db, "ada") is None
    found = rating_queue.next_unvoted(db, "bob")
    assert found is not None
    (row,) = skips.list_recent(db)
    assert (row["rater"], row["reason"], row["comment"]) == ("ada", "not my language", None)
    with pytest.raises(Invalid, match="reason"):
        skips.skip(db, made.id, "ada", " ")
    with pytest.raises(NotFound):
        skips.skip(db, "cmp-none", "ada", "too long")
    comparisons.vote(db, made.id, "a", "bob")
    with pytest.raises(Conflict, match="bob"):
        skips.skip(db, made.id, "bob", "too long")


def test_erasure_takes_what_was_skipped_and_taken_back(db: Store) -> None:
    made, other = compare(db, votes_wanted=2), compare(db, "Another?")
    comparisons.vote(db, made.id, "a", "bob", details=Details("slightly"))
    comparisons.vote(db, made.id, "a", "ada")
    comparisons.vote(db, other.id, "a", "ada")
    undone_votes.undo(db, other.id, "ada")
    skips.skip(db, other.id, "ada", "too long")
    assert weights(db) == [0.75]
    erasure.erase_person(db, "ada", "ops")
    assert weights(db) == [0.5]
    assert skips.list_recent(db) == []
    assert undone_votes.list_recent(db) == []
    assert scalar(db.read(), "select count(*) from audit where actor = 'ada'") == 0


def test_a_summary_counts_days_and_hides_few_gold_questions(db: Store) -> None:
    for n in range(rater_history.MIN_GOLD):
        found = rater_history.summary(db, "ada")
        assert (found.votes, found.gold_total) == (n, None)
        gold = compare(db, f"Question {n}?", gold="first")
        comparisons.vote(db, gold.id, str(gold.gold), "ada")
    found = rater_history.summary(db, "ada")
    assert (found.gold_right, found.gold_total) == (5, 5)
    assert (found.today, found.streak, found.agreement) == (5, 1, None)


@pytest.mark.parametrize(
    ("ago", "expected"), [((), 0), ((0,), 1), ((1,), 1), ((0, 1, 2, 4), 3), ((1, 2), 2), ((2, 3), 0)]
)
def test_a_streak_ends_where_a_day_is_missing(ago: tuple[int, ...], expected: int) -> None:
    today = date(2026, 3, 1)
    assert rater_history.streak([today - timedelta(days=n) for n in ago], today) == expected
