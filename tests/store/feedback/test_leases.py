"""Which comparison a rater is shown: never one that another is judging, and some of them twice."""

from __future__ import annotations

from store.accounts import users
from store.db.database import Store
from store.feedback import comparisons, leases, rating_queue
from store.feedback.comparisons import Candidate, Comparison
from store.feedback.leases import LEASE_S, Leases


def ask(db: Store, question: str, votes_wanted: int | None = None) -> Comparison:
    return comparisons.create(
        db, question, [Candidate("x"), Candidate("y")], "assistant", votes_wanted=votes_wanted
    )


def shown(db: Store, rater: str, *skipped: str) -> str | None:
    found = rating_queue.next_unvoted(db, rater, skipped)
    return found.id if found else None


def test_two_raters_are_shown_two_comparisons(db: Store) -> None:
    first, second = ask(db, "One?"), ask(db, "Two?")
    assert shown(db, "ada") == first.id
    assert shown(db, "bob") == second.id
    assert shown(db, "ada") == first.id, "one's own is shown again"
    assert shown(db, "cy") is None
    comparisons.vote(db, first.id, "a", "ada")
    assert shown(db, "ada") is None, "the other one is before bob"


def test_a_comparison_that_was_skipped_is_left_to_others(db: Store) -> None:
    first, second = ask(db, "One?"), ask(db, "Two?")
    assert shown(db, "ada") == first.id
    assert shown(db, "ada", first.id) == second.id
    assert shown(db, "bob") == first.id
    assert shown(db, "ada", first.id, second.id) is None
    assert shown(db, "cy") == second.id, "nobody holds it any more"


def test_a_comparison_that_wants_two_votes_is_shown_to_two(db: Store) -> None:
    made = ask(db, "One?", 2)
    assert shown(db, "ada") == shown(db, "bob") == made.id
    assert shown(db, "cy") is None
    comparisons.vote(db, made.id, "a", "ada")
    assert shown(db, "cy") is None
    assert shown(db, "bob") == made.id


def test_a_lease_ends_by_itself(db: Store) -> None:
    now = 0.0
    held = Leases(lambda: now)
    held.take("cmp-1", "ada")
    assert held.held("bob") == {"cmp-1": 1}
    assert held.held("ada") == {}
    held.take("cmp-2", "ada")
    assert held.held("bob") == {"cmp-2": 1}
    now = LEASE_S + 1
    assert held.held("bob") == {}
    assert leases.of(db) is leases.of(db)


def test_a_share_is_judged_twice_where_several_people_may_rate(db: Store) -> None:
    db.second_votes = 1.0
    assert ask(db, "Alone?").votes_wanted == 1
    for name in ("ada", "bob"):
        users.create(db, name, ["rater"], "a long enough password")
    assert ask(db, "Both?").votes_wanted == 2
    assert ask(db, "As was asked?", 3).votes_wanted == 3
    db.second_votes = 0.15
    wanted = [ask(db, f"Question {n}?").votes_wanted for n in range(400)]
    assert 30 < wanted.count(2) < 95
