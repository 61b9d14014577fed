"""Names, folders, pins, deletion with undo, and links: what people make of their list of conversations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from store.accounts import sharing
from store.conversations import conversation_links, conversation_list, conversations, stored_conversations
from store.conversations.turn import Turn
from store.db.database import Store
from store.db.redaction import redactor
from store.db.rows import scalar
from store.errors import Conflict, Invalid, NotFound
from store.feedback import comparisons, traffic_prompts
from store.feedback.comparisons import Candidate
from store.maintenance import verify
from store.privacy import erasure
from store.training_data import likes, pairs
from store.values import Message
from tests.store.conversations.test_conversation_owners import places_of, said, texts, turn

ADA, BOB = "user ada", "user bob"


@pytest.fixture
def talks(db: Store) -> Store:
    """Two conversations of ada and one of bob."""
    conversations.record_turns(
        db,
        [
            turn("c1", "ada", "ada's plan", given="plan", at=0),
            turn("c2", "ada", "a recipe", given="recipe", at=1),
            turn("c3", "bob", "bob asks", given="bobs", at=2),
        ],
    )
    return db


def titles(db: Store, owner: str = ADA, **how: object) -> list[str]:
    return [one.title for one in stored_conversations.list_recent(db, owner=owner, **how)]  # type: ignore[arg-type]


def test_a_conversation_is_named_filed_and_pinned_by_its_owner_alone(talks: Store) -> None:
    changed = conversation_list.change(talks, "plan", ADA, title=" My  plan ", folder="Work", pinned=True)
    assert (changed.title, changed.named, changed.folder, changed.pinned) == ("My plan", True, "Work", True)
    assert titles(talks) == ["My plan", "a recipe"], "pinned ones come first"
    assert titles(talks, search="my PLAN") == titles(talks, search="ada's") == ["My plan"]
    assert stored_conversations.get(talks, "plan", ADA).folder == "Work"
    changed = conversation_list.change(talks, "plan", ADA, title=None, folder=None)
    assert (changed.title, changed.named, changed.folder, changed.pinned) == ("ada's plan", False, None, True)
    with pytest.raises(NotFound):
        conversation_list.change(talks, "plan", BOB, title="Mine")
    for text in ("", "  ", "x" * 201):
        with pytest.raises(Invalid, match="title"):
            conversation_list.change(talks, "plan", ADA, title=text)
    talks.redact = redactor(["email"])
    assert conversation_list.change(talks, "plan", ADA, title="to a@b.org").title == "to [email]"


def test_a_deleted_conversation_is_nowhere_until_it_is_restored(talks: Store) -> None:
    link = conversation_links.share(talks, "plan", ADA)
    with pytest.raises(NotFound):
        conversation_list.delete(talks, "plan", BOB)
    assert conversation_list.delete(talks, "plan", ADA).deleted_at is not None
    assert titles(talks) == titles(talks, search="a") == ["a recipe"]
    assert titles(talks, deleted=True) == ["ada's plan"]
    for read in (
        lambda: stored_conversations.get(talks, "plan", ADA),
        lambda: stored_conversations.get(talks, "plan"),
        lambda: stored_conversations.answers(talks, "plan", ADA),
        lambda: conversation_links.read(talks, link.token),
        lambda: conversation_list.delete(talks, "plan", ADA),
        lambda: conversation_list.change(talks, "plan", ADA, pinned=True),
    ):
        with pytest.raises(NotFound):
            read()
    prompts = [prompt[-1].content for prompt in conversations.recent_prompts(talks)]
    assert sorted(prompts) == ["a recipe", "bob asks"]
    assert sorted(one.messages[-1].content for one in traffic_prompts.newest(talks, 10)) == sorted(prompts)
    conversation_list.restore(talks, "plan", ADA)
    assert texts(talks, "plan", ADA) == ["ada's plan", "Yes."]
    assert conversation_links.read(talks, link.token).title == "ada's plan"


def test_a_conversation_that_goes_on_after_its_deletion_comes_back(talks: Store) -> None:
    conversation_list.delete(talks, "plan", ADA)
    late = Turn("c8", "plan", said("ada's plan"), "Again.", "assistant", user="ada")
    conversations.record_turns(talks, [turn("c7", "ada", "ada's plan", answer="Old.", given="plan", at=3)])
    assert titles(talks, deleted=True) == ["ada's plan"], "it began before the deletion"
    conversations.record_turns(talks, [late])
    assert titles(talks) == ["ada's plan", "a recipe"]


def test_only_what_was_deleted_long_enough_ago_is_due(talks: Store) -> None:
    conversation_list.delete(talks, "plan", ADA)
    assert conversation_list.due(talks, 60) == []
    assert conversation_list.due(talks, 60, datetime.now(UTC) + timedelta(seconds=61)) == ["plan"]
    assert conversation_list.due(talks, 0) == ["plan"]


def test_an_erased_conversation_is_gone_with_what_came_of_it_and_the_rest_stays(talks: Store) -> None:
    conversation_links.share(talks, "plan", ADA)
    for id in ("c1", "c2"):
        conversations.like(talks, id, True, "ada", owner=ADA)
    for asked, asker, source in (
        (said("ada's plan"), "ada", "typed"),  # two answers compared in Chat
        (said("ada's plan", "Yes.", "ada's plan, more"), "ada", "typed"),
        (said("a recipe"), "ada", "typed"),
        (said("ada's plan"), "bob", "rank"),  # drawn from the conversation
    ):
        made = comparisons.create(
            talks, asked, [Candidate("good"), Candidate("bad")], "assistant", asked_by=asker, source=source
        )
        comparisons.vote(talks, made.id, "a" if made.a.content == "good" else "b", "bob")
    sharing.choose(talks, ADA, "show")
    conversation_list.delete(talks, "plan", ADA)

    done = erasure.erase_conversations(talks, conversation_list.due(talks, 0))

    assert done.removed["conversations"] == 1
    assert (done.removed["comparisons"], done.removed["pairs"]) == (3, 2), "two votes made one pair"
    assert done.removed["demonstrations"] == done.removed["likes"] == 1
    assert places_of(talks, "ada's plan") == []
    assert titles(talks) == ["a recipe"]
    assert titles(talks, BOB) == ["bob asks"]
    assert (pairs.count(talks), likes.count(talks, "assistant")) == (1, {"liked": 1, "disliked": 0})
    assert sharing.choice_of(talks, ADA) is not None
    assert erasure.list_all(talks) == [done]
    assert verify.verify(talks) == []
    with pytest.raises(NotFound):
        conversation_list.restore(talks, "plan", ADA)
    with pytest.raises(NotFound):
        erasure.erase_conversations(talks, ["plan"])


def test_what_was_also_said_elsewhere_stays(talks: Store) -> None:
    conversations.record_turns(talks, [turn("c4", "ada", "a recipe", given="again", at=3)])
    made = comparisons.create(
        talks, said("a recipe"), [Candidate("good"), Candidate("bad")], "assistant", asked_by="ada"
    )
    comparisons.vote(talks, made.id, "a", "bob")
    conversation_list.delete(talks, "again", ADA)
    erasure.erase_conversations(talks, ["again"])
    assert titles(talks) == ["a recipe", "ada's plan"]
    assert pairs.count(talks) == 1


def test_an_answer_that_ends_after_the_erasure_is_dropped(talks: Store) -> None:
    under_way = Turn("c9", "plan", said("ada's plan", "Yes.", "more"), "Late.", "assistant", user="ada")
    others = Turn("c10", "plan", (Message("user", "bob's plan"),), "Yes.", "assistant", user="bob")
    conversation_list.delete(talks, "plan", ADA)
    erasure.erase_conversations(talks, ["plan"])
    conversations.record_turns(talks, [under_way, others])
    assert places_of(talks, "ada's plan") == []
    assert texts(talks, "plan", BOB) == ["bob's plan", "Yes."]
    new = Turn("c11", "plan", said("a new plan"), "Yes.", "assistant", user="ada")
    conversations.record_turns(talks, [new])
    assert "a new plan" in titles(talks)


def test_a_link_shows_what_there_was_until_it_is_renewed_or_taken_back(talks: Store) -> None:
    with pytest.raises(NotFound):
        conversation_links.share(talks, "plan", BOB)
    assert conversation_links.link_of(talks, "plan", ADA) is None
    link = conversation_links.share(talks, "plan", ADA)
    more = turn("c5", "ada", "ada's plan", "Yes.", "and a secret", given="plan", at=5)
    conversations.record_turns(talks, [more])

    def shown() -> list[str]:
        return [message.content for message in conversation_links.read(talks, link.token).messages]

    assert shown() == ["ada's plan", "Yes."]
    again = conversation_links.share(talks, "plan", ADA)
    assert again.token == link.token
    assert shown() == ["ada's plan", "Yes.", "and a secret", "Yes."]
    assert conversation_links.link_of(talks, "plan", ADA) == again
    with pytest.raises(NotFound):
        conversation_links.revoke(talks, "plan", BOB)
    conversation_links.revoke(talks, "plan", ADA)
    with pytest.raises(NotFound):
        shown()
    assert conversation_links.share(talks, "plan", ADA).token != link.token
    erasure.erase_person(talks, "ada")
    assert scalar(talks.read(), "select count(*) from conversation_links") == 0


def test_a_conversation_without_messages_has_nothing_to_share(db: Store) -> None:
    conversations.record_turns(db, [turn("c1", "ada", "Hi", given="plan")])
    with db.atomic() as cursor:
        cursor.execute("delete from completions")
    with pytest.raises(Conflict):
        conversation_links.share(db, "plan", ADA)


def test_versions_of_a_message_lead_to_their_branches(db: Store) -> None:
    for id, asked, answer, at in (
        ("c1", ("Hi",), "Hello.", 0),
        ("c2", ("Hi", "Hello.", "More"), "More one.", 1),
        ("c3", ("Hi", "Hello.", "More"), "More two.", 2),
        ("c4", ("Hi", "Hello.", "Less"), "Less one.", 3),
    ):
        conversations.record_turns(db, [turn(id, "ada", *asked, answer=answer, given="plan", at=at)])
    last = stored_conversations.get(db, "plan", ADA).messages
    assert [m.content for m in last] == ["Hi", "Hello.", "Less", "Less one."]
    assert [len(m.versions) for m in last] == [0, 0, 2, 0]
    assert last[2].versions[1] == last[2].id
    other = stored_conversations.get(db, "plan", ADA, message=last[2].versions[0]).messages
    assert [m.content for m in other] == ["Hi", "Hello.", "More", "More two."]
    assert [len(m.versions) for m in other] == [0, 0, 2, 2]
    first = stored_conversations.get(db, "plan", ADA, message=other[3].versions[0]).messages
    assert first[3].content == "More one."
    assert stored_conversations.get(db, "plan", ADA, message="c2").messages == first
    with pytest.raises(NotFound):
        stored_conversations.get(db, "plan", ADA, message="elsewhere")
