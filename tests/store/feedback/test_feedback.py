"""Conversations, likes, comparisons, votes and what follows from them."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from store.conversations import conversations, stored_conversations
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db.database import Store
from store.db.rows import scalar
from store.errors import Conflict, Invalid, NotFound
from store.feedback import comparisons, rating_queue, voting
from store.feedback.comparisons import Candidate, Comparison
from store.ids import new_id
from store.training_data import demonstrations, likes, pairs
from tests.store.feedback.turns import said

START = datetime(2026, 1, 1, tzinfo=UTC)


def turn(
    completion: str,
    answer: str | None,
    *texts: str,
    conversation: str = "conv-1",
    minute: int = 0,
    **facts: object,
) -> Turn:
    return Turn(
        completion_id=completion,
        conversation_id=conversation,
        messages=said(*texts),
        answer=answer,
        deployment="assistant",
        created_at=START + timedelta(minutes=minute),
        **facts,  # type: ignore[arg-type]
    )


def compare(db: Store, a: str = "short", b: str = "a longer one", **facts: object) -> Comparison:
    made = comparisons.create(
        db, said("Hi?"), [Candidate(a, release="rel-1"), Candidate(b, release="rel-2")], "assistant", **facts
    )  # type: ignore[arg-type]
    return made


def side(comparison: Comparison, text: str) -> str:
    return "a" if comparison.a.content == text else "b"


def test_a_conversation_grows_and_a_regenerated_answer_is_a_sibling(db: Store) -> None:
    conversations.record_turns(db, [turn("c1", "Hello.", "Hi", user="ada", release="rel-1")])
    conversations.record_turns(
        db,
        [
            turn("c2", "Blue.", "Hi", "Hello.", "Colour?", minute=1, user="ada"),
            turn("c3", "Red.", "Hi", "Hello.", "Colour?", minute=2, user="ada"),
        ],
    )
    read = stored_conversations.get(db, "conv-1")
    assert [(m.role, m.content) for m in read.messages] == [
        ("user", "Hi"), ("assistant", "Hello."), ("user", "Colour?"), ("assistant", "Red."),
    ]  # fmt: skip
    assert [m.completion_id for m in read.messages] == [None, "c1", None, "c3"]
    assert (read.user, read.title, read.messages[1].release) == ("ada", "Hi", "rel-1")
    assert scalar(db.read(), "select count(*) from messages") == 5


def test_recording_a_turn_twice_changes_nothing(db: Store) -> None:
    for _ in range(2):
        conversations.record_turns(db, [turn("c1", "Hello.", "Hi")])
    assert scalar(db.read(), "select count(*) from completions") == 1
    assert scalar(db.read(), "select count(*) from messages") == 2


def test_a_long_conversation_adds_only_what_is_new(db: Store) -> None:
    texts = [f"{n}" for n in range(121)]
    for end in (119, 121):
        conversations.record_turns(db, [turn(f"c{end}", f"{end}", *texts[:end], minute=end)])
    assert scalar(db.read(), "select count(*) from messages") == 122
    read = stored_conversations.get(db, "conv-1")
    assert [message.content for message in read.messages] == [*texts, "121"]
    assert read.updated_at == START + timedelta(minutes=121)


def test_one_call_may_hold_an_answer_twice_and_an_id_serve_two_nouns(db: Store) -> None:
    first = turn("same", "yes", "Ready?", conversation="same", user="ada")
    again = turn("same", "no", "Ready?", conversation="same", minute=1, user="ada")
    conversations.record_turns(db, [first, again])
    conversations.record_turns(db, [turn("same", "third", "Ready?", conversation="other", user="bob")])
    conversations.record_turns(db, [turn("other", "fourth", "Ready?", conversation="other", user="bob")])
    assert scalar(db.read(), "select count(*) from completions") == 2
    assert stored_conversations.get(db, "same").messages[-1].content == "yes"
    assert stored_conversations.get(db, "other").messages[-1].content == "fourth"
    assert stored_conversations.get(db, "other").user == "bob"


def test_a_failed_turn_keeps_its_error(db: Store) -> None:
    conversations.record_turns(db, [turn("c1", None, "Hi", error="engine_unavailable")])
    assert [m.role for m in stored_conversations.get(db, "conv-1").messages] == ["user"]
    with pytest.raises(Conflict):
        conversations.like(db, "c1", True, "ada")


def test_conversations_are_listed_newest_first(db: Store) -> None:
    conversations.record_turns(db, [turn("c1", "A.", "One", conversation="x", user="ada")])
    conversations.record_turns(db, [turn("c2", "B.", "Two", conversation="y", user="bob", minute=1)])
    conversations.record_turns(
        db, [turn("c3", "C.", "One", "A.", "More", conversation="x", minute=2, user="ada")]
    )
    assert [c.id for c in stored_conversations.list_recent(db)] == ["x", "y"]
    assert [c.title for c in stored_conversations.list_recent(db, user="bob")] == ["Two"]
    assert [p[-1].content for p in conversations.recent_prompts(db, 10)] == ["More", "Two", "One"]
    with pytest.raises(NotFound):
        stored_conversations.get(db, "z")


def test_a_like_teaches_and_can_be_taken_back(db: Store) -> None:
    conversations.record_turns(
        db, [turn("c1", "Hello.", "Hi"), turn("c2", "Blue.", "Hi", "Hello.", "Colour?", minute=1)]
    )
    conversations.like(db, "c2", True, "ada")
    conversations.like(db, "c2", True, "ada")
    (made,) = demonstrations.list_page(db)
    assert made.demonstration.prompt == said("Hi", "Hello.", "Colour?")
    assert (made.demonstration.completion[0].content, made.source, made.deployment) == (
        "Blue.",
        "like",
        "assistant",
    )
    assert stored_conversations.get(db, "conv-1").messages[-1].liked is True
    conversations.like(db, "c2", False, "ada")
    assert demonstrations.count(db) == 0
    assert likes.count(db) == {"liked": 0, "disliked": 1}
    assert likes.list_recent(db)[0]["label"] is False
    conversations.like(db, "c2", None, "ada")
    assert likes.count(db) == {"liked": 0, "disliked": 0}
    with pytest.raises(NotFound):
        conversations.like(db, "c9", True, "ada")


@pytest.mark.parametrize("winner", ["short", "a longer one"])
def test_a_choice_makes_one_pair(db: Store, winner: str) -> None:
    comparison = compare(db)
    vote = comparisons.vote(db, comparison.id, side(comparison, winner), "ada", tags=["tone", "tone"])
    (made,) = pairs.list_page(db)
    loser = "short" if winner != "short" else "a longer one"
    assert (made.pair.chosen[0].content, made.pair.rejected[0].content) == (winner, loser)
    assert (made.pair.prompt, made.pair.tags, made.source, made.deployment) == (
        said("Hi?"),
        ("tone",),
        "vote",
        "assistant",
    )
    assert vote.pairs == (made.id,)
    assert made.content_hash == made.pair.content_hash
    assert comparisons.get(db, comparison.id).state == "decided"
    assert comparisons.votes(db, comparison.id) == [vote]
    assert pairs.list_page(db) == [made]
    assert (vote.deployment, vote.releases) == (
        "assistant",
        {"a": comparison.a.release, "b": comparison.b.release},
    )


@pytest.mark.parametrize("choice", ["tie", "both_bad"])
def test_no_choice_makes_no_pair(db: Store, choice: str) -> None:
    assert comparisons.vote(db, compare(db).id, choice, "ada").pairs == ()
    assert pairs.count(db) == 0


def test_both_bad_dislikes_both_answers(db: Store, tmp_path: Path) -> None:
    comparison = compare(db, votes_wanted=2)
    comparisons.vote(db, comparison.id, "both_bad", "ada")
    comparisons.vote(db, comparison.id, "both_bad", "bob", better="A good one.")
    comparisons.vote(db, compare(db, "x", "y").id, "tie", "ada")
    comparisons.vote(db, compare(db, "right", "wrong", gold="both_bad").id, "both_bad", "ada")
    comparisons.vote(db, compare(db, "same", "same").id, "both_bad", "ada")
    assert likes.count(db) == {"liked": 0, "disliked": 5}
    rows = likes.list_recent(db)
    assert sorted(row["completion"][0]["content"] for row in rows) == [
        "a longer one", "a longer one", "same", "short", "short",
    ]  # fmt: skip
    assert {row["label"] for row in rows} == {False}
    made = snapshots.build(db, tmp_path, "assistant", "kto", 0.0)
    assert made.train_rows == 3, "the same dislike of two raters is one row"
    (origin,) = (
        db.read()
        .execute("select distinct release from likes where completion[1].content = 'short'")
        .fetchall()
    )
    assert origin == ("rel-1",)


@pytest.mark.parametrize(("choice", "expected"), [("a", 3), ("tie", 2), ("both_bad", 2)])
def test_a_better_response_beats_both_and_is_a_demonstration(db: Store, choice: str, expected: int) -> None:
    vote = comparisons.vote(db, compare(db).id, choice, "ada", better="the best")
    made = pairs.list_page(db)
    assert len(made) == len(vote.pairs) == expected
    assert sorted(p.pair.rejected[0].content for p in made if p.pair.chosen[0].content == "the best") == [
        "a longer one",
        "short",
    ]
    (demonstration,) = demonstrations.list_page(db)
    assert vote.demonstration == demonstration.id
    assert demonstration.demonstration.completion[0].content == "the best"


def test_equal_or_blank_texts_make_no_pair(db: Store) -> None:
    comparisons.vote(db, compare(db, "same", "same").id, "a", "ada")
    comparisons.vote(db, compare(db, "text", " ").id, "a", "ada")
    assert pairs.count(db) == 0
    comparisons.vote(db, compare(db, "same", "same").id, "a", "ada", better="better")
    assert pairs.count(db) == 1


def test_votes_on_unknown_and_decided_comparisons(db: Store) -> None:
    comparison = compare(db)
    with pytest.raises(NotFound):
        comparisons.vote(db, "cmp-0", "a", "ada")
    comparisons.vote(db, comparison.id, "tie", "ada")
    with pytest.raises(Conflict, match="decided"):
        comparisons.vote(db, comparison.id, "a", "bob", better="x")
    assert len(comparisons.votes(db, comparison.id)) == 1
    assert pairs.count(db) == demonstrations.count(db) == 0


@pytest.mark.parametrize(
    ("field", "facts"),
    [
        ("choice", {"choice": "c"}),
        ("better", {"better": "  "}),
        ("tags", {"tags": [1]}),
        ("rater", {"rater": ""}),
    ],
)
def test_bad_votes_change_nothing(db: Store, field: str, facts: dict[str, object]) -> None:
    comparison = compare(db)
    with pytest.raises(Invalid) as caught:
        comparisons.vote(db, comparison.id, **{"choice": "a", "rater": "ada", **facts})  # type: ignore[arg-type]
    assert caught.value.field == field
    assert comparisons.get(db, comparison.id) == comparison


def test_several_raters_decide_together(db: Store) -> None:
    comparison = compare(db, votes_wanted=2)
    comparisons.vote(db, comparison.id, "a", "ada")
    with pytest.raises(Conflict, match="ada has voted"):
        comparisons.vote(db, comparison.id, "b", "ada")
    assert comparisons.get(db, comparison.id).votes_given == 1
    assert rating_queue.next_unvoted(db, "ada") is None
    found = rating_queue.next_unvoted(db, "bob")
    assert found is not None
    assert found.id == comparison.id
    comparisons.vote(db, comparison.id, "b", "bob")
    assert comparisons.get(db, comparison.id).state == "decided"
    assert pairs.count(db) == 2


def test_a_known_pair_gets_a_second_vote_behind_it(db: Store) -> None:
    first, second = compare(db, votes_wanted=2), compare(db)
    once = comparisons.vote(db, first.id, side(first, "short"), "ada")
    again = comparisons.vote(db, second.id, side(second, "short"), "bob")
    assert once.pairs == again.pairs
    assert comparisons.votes(db, second.id) == [again]
    # The text that bob would rather read is the one he chose: one pair, for two reasons.
    better = comparisons.vote(db, first.id, side(first, "short"), "bob", better="short")
    assert set(better.pairs) == set(once.pairs)
    assert pairs.count(db) == 1
    assert scalar(db.read(), "select count(*) from evidence where subject_id like 'pair-%'") == 4
    # One who has voted is told so, also where the vote says what is known.
    third = compare(db, votes_wanted=2)
    comparisons.vote(db, third.id, side(third, "short"), "ada")
    with pytest.raises(Conflict, match="ada has voted"):
        comparisons.vote(db, third.id, side(third, "short"), "ada")
    assert comparisons.get(db, third.id).votes_given == 1


def test_a_vote_joins_the_transaction_around_it(db: Store) -> None:
    def fail() -> None:
        with db.atomic():
            comparison = compare(db)
            comparisons.vote(db, comparison.id, "a", "ada", better="the best")
            assert pairs.count(db) == 3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert pairs.count(db) == demonstrations.count(db) == scalar(db.read(), "select count(*) from votes") == 0
    with db.atomic():
        comparison = compare(db)
        comparisons.vote(db, comparison.id, "tie", "ada")
    assert comparisons.get(db, comparison.id).state == "decided"


def test_a_vote_reads_no_comparison_but_its_own(db: Store) -> None:
    made = [compare(db, votes_wanted=2) for _ in range(30)]
    for comparison in made[::2]:
        comparisons.vote(db, comparison.id, "tie", "ada")
    db.checkpoint()
    (_, plan), *_ = (
        db.read().execute("explain (analyze, format json) " + voting._CASE, {"id": made[1].id}).fetchall()
    )
    read = [int(rows) for rows in re.findall(r'"rows_scanned": (\d+)', plan)]
    assert sorted(read) == [1, 2]  # the comparison and its candidates


def test_of_many_votes_at_once_exactly_one_counts(db: Store) -> None:
    comparison = compare(db)
    outcomes: list[str] = []

    def work(rater: str) -> None:
        try:
            comparisons.vote(db, comparison.id, "a", rater)
            outcomes.append("counted")
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=work, args=(f"r{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 7 + ["counted"]
    assert len(comparisons.votes(db, comparison.id)) == 1
    assert pairs.count(db) == 1


def test_the_side_is_drawn_and_hidden(db: Store) -> None:
    made = [compare(db) for _ in range(60)]
    assert 10 < sum(c.a.content == "short" for c in made) < 50
    assert set(made[0].blind()) == {"id", "messages", "a", "b", "a_message", "b_message", "branches"}
    assert made[0] == comparisons.get(db, made[0].id)
    assert [c.id for c in comparisons.list_all(db, "open", 2)] == [made[-1].id, made[-2].id]
    first = rating_queue.next_unvoted(db, "ada")
    assert first is not None
    assert first.id == made[0].id


def test_gold_questions_teach_nothing(db: Store) -> None:
    made = compare(db, gold="first")
    assert made.gold == side(made, "short")
    assert comparisons.vote(db, made.id, "a", "ada", better="x").pairs == ()
    assert pairs.count(db) == demonstrations.count(db) == 0


def test_comparisons_need_two_candidates_and_messages(db: Store) -> None:
    with pytest.raises(Invalid, match="candidates"):
        comparisons.create(db, said("Hi"), [Candidate("x")])
    with pytest.raises(Invalid, match="messages"):
        comparisons.create(db, [], [Candidate("x"), Candidate("y")])


def test_ids_increase() -> None:
    made = [new_id("vote") for _ in range(1000)]
    assert made == sorted(set(made))
