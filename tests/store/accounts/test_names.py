"""One rule and one spelling for names of people and keys; every stored name can be erased."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.accounts import keys, names, users
from store.conversations import conversations
from store.conversations.turn import Turn
from store.db.database import Store
from store.errors import Invalid
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.maintenance import verify
from store.privacy import erasure
from store.values import Message


@pytest.mark.parametrize(
    "name", ["ada", "Zoë", "日本太郎", "Ада", "a.b_c@d+e-f", "auth0|17", "O'Neil, Ann", "أمل", "9"]
)
def test_names_of_any_script_are_accepted(name: str) -> None:
    assert names.person_name(name) == name
    assert names.person_name(unicodedata.normalize("NFD", name)) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "a/b", "a\\b", '"ada"', "<b>", "a%2Fb", " ada", "ada ", "a  b", "a\nb", "a\u202eb", "a\ud800",
     "\u0301a", "x" * 201, None, 7],
)  # fmt: skip
def test_other_names_are_refused_at_every_door(db: Store, name: object) -> None:
    for create in (users.create, keys.create):
        with pytest.raises(Invalid) as caught:
            create(db, name, ["chat"])  # type: ignore[operator]
        assert caught.value.field == "name"


def test_a_name_signs_in_in_any_spelling(db: Store) -> None:
    made = users.create(db, "Zoe\u0308", ["chat"], "correct horse")
    assert made.name == "Zoë"
    for spelling in ("Zoë", "Zoe\u0308"):
        assert users.authenticate(db, spelling, "correct horse") == made
        assert keys.create(db, "laptop", ["chat"], spelling)[0].user == "Zoë"
    users.remove(db, "Zoe\u0308")
    assert users.count(db) == 0


@given(st.text(min_size=1, max_size=20))
def test_every_accepted_name_is_in_its_one_spelling(text: str) -> None:
    try:
        name = names.person_name(text)
    except Invalid:
        return
    assert name == unicodedata.normalize("NFC", text) == names.person_name(name)
    assert {name, text} <= set(names.spellings(name)) | {text}
    assert name in names.spellings(text)


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("ZoÃ«", "Zoë"),
        ("Zoe\u0308", "Zoë"),
        ("Zo%C3%AB", "Zoë"),
        ("Zoë", "ZoÃ«"),
        ("Zoë", "Zo%C3%AB"),
        ("..", ".."),
        ("a/b", "a/b"),
        ('"ada"', '"ada"'),
        ("Ann Lee%2FOps", "Ann Lee/Ops"),
    ],
)
def test_a_name_stored_before_the_rule_is_erased(db: Store, stored: str, asked: str) -> None:
    conversations.record_turns(db, [Turn("c1", "v", (Message("user", "Hi"),), "Yes.", user=stored)])
    made = comparisons.create(db, "Q", [Candidate("x"), Candidate("y")], "assistant", asked_by="bob")
    comparisons.vote(db, made.id, "a", stored)
    assert erasure.is_known(db, asked)
    assert erasure.preview(db, asked).removed["votes"] == 1
    done = erasure.erase_person(db, asked)
    assert (done.removed["conversations"], done.removed["votes"]) == (1, 1)
    assert not erasure.is_known(db, stored)
    assert verify.verify(db) == []


def test_a_key_s_name_that_voted_is_erased_and_the_key_works_on(db: Store) -> None:
    key, secret = keys.create(db, "ci-bot", ["rater"])
    conversations.record_turns(db, [Turn("c1", "v", (Message("user", "Hi"),), "Yes.", key_id=key.id)])
    made = comparisons.create(db, "Q", [Candidate("x"), Candidate("y")], "assistant", asked_by="bob")
    comparisons.vote(db, made.id, "a", "ci-bot")
    done = erasure.erase_person(db, "ci-bot")
    assert (done.removed["votes"], done.removed["completions"]) == (1, 1)
    found = keys.find(db, secret)
    assert found is not None
    assert found.name == done.id
