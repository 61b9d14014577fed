"""Erasure of a person: what is deleted, what stays, and what is refused meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from store.accounts import audit, users
from store.conversations import conversations, stored_conversations
from store.conversations.turn import Turn
from store.datasets import snapshots
from store.db import erasure_guard
from store.db.database import Store
from store.db.rows import scalar
from store.errors import Conflict, Invalid, NotFound
from store.feedback import comparisons, rating_queue
from store.feedback.comparisons import Candidate
from store.ids import new_id
from store.maintenance import verify
from store.privacy import erased_files, erasure
from store.training_data import likes, pairs
from store.values import Message
from tests.store.trained_releases import refs, trained, vote


def test_erasure_of_a_person_reaches_releases_and_snapshots(db: Store, tmp_path: Path) -> None:
    users.create(db, "ada", ["rater"], "correct horse")
    token = users.start_session(db, "ada")
    conversations.record_turns(
        db,
        [
            Turn(
                "c1",
                "conv",
                (Message("user", "my secret plan"),),
                "Noted.",
                deployment="assistant",
                user="ada",
            )
        ],
    )
    conversations.like(db, "c1", True, "bob")
    vote(db, "my secret plan", "bob")  # drawn from ada's conversation
    vote(db, "asked by ada", "bob", asked_by="ada")
    vote(db, "shared", "ada")
    shared = vote(db, "shared", "bob")
    alone = vote(db, "only ada", "ada")
    kept = vote(db, "only bob", "bob")
    before, _ = trained(db, tmp_path, "a-1")
    audit.record(db, "ada", "looked", "x")

    done = erasure.erase_person(db, "ada", "root")

    assert done.removed["pairs"] == 3
    assert done.removed["votes"] == 4
    assert done.removed["demonstrations"] == 1
    assert refs(done.releases) == [before.ref]
    assert len(done.snapshots) == len(done.runs) == 1
    assert refs(erasure.flagged(db)) == [before.ref]
    assert erasure.list_all(db) == [done]
    assert {record.id for record in pairs.list_page(db)} == {shared, kept}
    with pytest.raises(NotFound):
        pairs.get(db, alone)
    assert users.find_session(db, token) is None
    assert stored_conversations.list_recent(db) == []
    assert not list((tmp_path / "snapshots").glob("*/*.parquet"))
    for table, column in (
        ("audit", "actor"),
        ("votes", "rater"),
        ("evidence", "person"),
        ("comparisons", "asked_by"),
    ):
        assert scalar(db.read(), f"select count(*) from {table} where {column} = 'ada'") == 0
    assert verify.verify(db) == []
    with pytest.raises(NotFound):
        erasure.erase_person(db, "ada")


def say(db: Store, who: str | None, *texts: str) -> None:
    """Record a conversation in which `who` said the first, third… text and a model the others."""
    turns = [Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(texts)]
    id = new_id("c")
    conversations.record_turns(
        db, [Turn(id, f"v{id}", tuple(turns), "Yes.", deployment="assistant", user=who)]
    )


def brought_by_an_import(db: Store) -> None:
    pairs.import_rows(db, [{"prompt": "Hello!", "chosen": "x", "rejected": "y"}], "file.jsonl")


@pytest.mark.parametrize(
    ("elsewhere", "lost"),
    [
        (lambda db: say(db, "bob", "Hello!"), 0),
        (lambda db: say(db, None, "Hello!"), 0),
        (brought_by_an_import, 0),
        (lambda db: None, 3),
        (lambda db: say(db, "bob", "Before", "that", "Hello!"), 3),
        (lambda db: say(db, "bob", "Hello!", "Hi", "More?"), 3),
    ],
    ids=[
        "said by bob",
        "said without a name",
        "imported",
        "by nobody else",
        "after other words",
        "before other words",
    ],
)
def test_votes_on_what_others_said_too_stay(db: Store, elsewhere: Callable[[Store], None], lost: int) -> None:
    say(db, "ada", "Hello!")
    elsewhere(db)
    for rater in ("bob", "cy", "dan"):
        vote(db, "Hello!", rater, asked_by=rater)
    before = comparisons.count_by_state(db), pairs.count(db)
    told = erasure.preview(db, "ada")
    assert (comparisons.count_by_state(db), pairs.count(db)) == before, "a preview changes nothing"
    assert erasure.list_all(db) == audit.list_recent(db) == []
    done = erasure.erase_person(db, "ada")
    assert done.of_others == ({"votes": lost} if lost else {})
    assert (told.removed, told.of_others, told.id) == (done.removed, done.of_others, "")
    assert scalar(db.read(), "select count(*) from votes") == 3 - lost
    assert verify.verify(db) == []


def test_question_of_another_person_or_a_suggested_one_has_no_single_owner(db: Store) -> None:
    vote(db, "older", "bob", asked_by="bob")
    vote(db, "starter", "bob", asked_by="ada")
    vote(db, "lonely", "ada", asked_by="ada")
    say(db, "ada", "older")
    say(db, "ada", "starter")
    sides = [Candidate("good"), Candidate("bad")]
    for question, facts in {
        "typed": {"source": "typed", "asked_by": "bob"},
        "drawn": {"source": "drawn", "asked_by": "bob"},
        "gold": {"gold": "first"},
    }.items():
        say(db, "ada", question)
        comparisons.vote(db, comparisons.create(db, question, sides, "assistant", **facts).id, "a", "bob")
    done = erasure.erase_person(db, "ada", suggested=["starter"])
    assert (done.of_others, done.removed["comparisons"]) == ({"votes": 1}, 2)
    kept = {made.messages[0].content: made.asked_by for made in comparisons.list_all(db)}
    assert kept == {"older": "bob", "starter": done.id, "typed": "bob", "gold": None}
    assert verify.verify(db) == []


def test_preview_of_an_erasure_needs_a_known_person_and_no_second_name(db: Store) -> None:
    with pytest.raises(NotFound):
        erasure.preview(db, "nobody")
    with db.atomic(), pytest.raises(RuntimeError):
        erasure.preview(db, "nobody")


def test_a_comparison_that_loses_a_vote_is_asked_again(db: Store) -> None:
    once = comparisons.create(db, "once", [Candidate("good"), Candidate("bad")], "assistant")
    twice = comparisons.create(
        db, "twice", [Candidate("good"), Candidate("bad")], "assistant", votes_wanted=2
    )
    comparisons.vote(db, once.id, "a", "ada")
    for rater in ("ada", "bob"):
        comparisons.vote(db, twice.id, "a", rater)
    erasure.erase_person(db, "ada")
    found = {made.id: (made.state, made.votes_given, made.decided_at) for made in comparisons.list_all(db)}
    assert found == {once.id: ("open", 0, None), twice.id: ("open", 1, None)}
    first = rating_queue.next_unvoted(db, "bob")
    assert first is not None
    assert first.id == once.id
    comparisons.vote(db, twice.id, "a", "cy")
    assert comparisons.get(db, twice.id).state == "decided"


def test_a_name_in_settings_of_a_snapshot_becomes_a_pseudonym(db: Store, tmp_path: Path) -> None:
    vote(db, "q1 alpha", "ada")
    vote(db, "q2 beta", "bob")
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0, exclude_raters=["ada", "cy"])
    done = erasure.erase_person(db, "ada")
    assert snapshots.get(db, made.hash).settings["exclude_raters"] == [done.id, "cy"]
    home = Path(made.directory)
    facts = json.loads((home / "snapshot.json").read_text())
    assert facts["settings"]["exclude_raters"] == [done.id, "cy"]
    assert "ada" not in (home / "report.md").read_text()
    assert (home / "train.parquet").exists(), "it held nothing of theirs"


def test_files_that_an_erasure_could_not_delete_go_later(db: Store, tmp_path: Path) -> None:
    vote(db, "q1", "ada")
    vote(db, "q2", "bob")
    made = snapshots.build(db, tmp_path, "assistant", "dpo", 0.0)
    train = Path(made.directory) / "train.parquet"
    kept, written = train.read_bytes(), train.stat().st_mtime
    erasure.erase_person(db, "ada")
    train.write_bytes(kept)
    erased_files.delete_erased(db)
    assert train.exists(), "written since the erasure, so without what it took"
    os.utime(train, (written, written))
    erased_files.delete_erased(db)
    assert not train.exists()


def test_writes_started_before_an_erasure_are_rejected(db: Store) -> None:
    vote(db, "before", "ada")
    asked = comparisons.create(db, "Q", [Candidate("good"), Candidate("bad")], "assistant")
    turn = Turn("c1", "conv", (Message("user", "Hi"),), "Hello.", deployment="assistant", user="bob")
    conversations.record_turns(db, [turn])
    began = datetime.now(UTC)
    erasure.erase_person(db, "ada")
    with pytest.raises(Conflict, match="ada was erased"):
        comparisons.vote(db, asked.id, "a", "ada", began=began)
    with pytest.raises(Conflict, match="ada was erased"):
        conversations.like(db, "c1", True, "ada", began)
    assert comparisons.vote(db, asked.id, "a", "bob", began=began).rater == "bob"
    assert comparisons.votes(db, asked.id)[0].choice == "a"
    assert scalar(db.read(), "select count(*) from likes") == 0
    again = comparisons.create(db, "Q2", [Candidate("good"), Candidate("bad")], "assistant")
    assert comparisons.vote(db, again.id, "b", "ada", began=datetime.now(UTC)).rater == "ada"


def test_erasure_rolled_back_changes_nothing(db: Store) -> None:
    vote(db, "before", "ada")
    began = datetime.now(UTC)

    def fails() -> None:
        with db.atomic():
            erasure.erase_person(db, "ada")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert not erasure_guard.erased_since(db, "ada", began)
    with db.atomic():  # nor does what is committed next
        pass
    assert not erasure_guard.erased_since(db, "ada", began)
    erasure.erase_person(db, "ada")
    assert erasure_guard.erased_since(db, "ada", began)


def test_the_next_run_starts_from_an_adapter_that_never_saw_them(db: Store, tmp_path: Path) -> None:
    vote(db, "q1", "bob")
    trained(db, tmp_path, "a-1")
    vote(db, "q2", "ada")
    trained(db, tmp_path, "a-2", start="a-1", replay=0.0)
    trained(db, tmp_path, "a-3", start="a-2", replay=0.0)
    assert erasure.clean_start(db, "a-3") == "a-3"
    done = erasure.erase_person(db, "ada")
    assert refs(done.releases) == ["assistant@3", "assistant@4"]
    assert erasure.clean_start(db, "a-3") == erasure.clean_start(db, "a-2") == "a-1"
    assert erasure.clean_start(db, "a-1") == "a-1"
    erasure.erase_person(db, "bob")
    assert erasure.clean_start(db, "a-3") is None
    assert erasure.clean_start(db, None) is None
    with pytest.raises(Invalid):
        snapshots.build(db, tmp_path, "assistant", "dpo")


def test_erasure_takes_the_dislikes_of_erased_votes_and_comparisons(db: Store) -> None:
    def both_bad(prompt: str, rater: str) -> None:
        shown = [Candidate(f"{prompt}: one"), Candidate(f"{prompt}: two")]
        made = comparisons.create(db, (Message("user", prompt),), shown, "assistant")
        comparisons.vote(db, made.id, "both_bad", rater)

    say(db, "ada", "my secret plan")
    both_bad("my secret plan", "bob")
    both_bad("anybody's", "ada")
    both_bad("anybody's", "bob")
    assert likes.count(db)["disliked"] == 6
    done = erasure.erase_person(db, "ada", "root")
    assert done.removed["likes"] == 4
    assert done.of_others["likes"] == 2
    assert [row["prompt"][0]["content"] for row in likes.list_recent(db)] == ["anybody's"] * 2
