"""Conversations with tools as they are kept: definitions, calls, results, reasoning; liked answers become whole rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from store import tool_results
from store.conversations import conversations, stored_conversations
from store.conversations.turn import Turn
from store.db import redaction
from store.db.database import Store
from store.errors import Conflict, Invalid
from store.feedback import choices, comparisons
from store.feedback.comparisons import Candidate
from store.maintenance import verify
from store.privacy import erasure
from store.training_data import demonstrations, likes, pairs
from store.values import conversation

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "required": ["town"]}},
    }
]
ASKED = {"role": "user", "content": "Rain in Ulm?", "tools": TOOLS}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "rain"}


def turn(id: str, messages: list[dict[str, Any]], answer: str | None, **more: Any) -> Turn:
    return Turn(id, "conv", conversation(messages), answer, "assistant", user="ada", **more)


def carried(**what: Any) -> str:
    return conversation([{"role": "assistant", "content": None, **what}])[0].carried


def kept(db: Store) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stored_conversations.get(db, "conv").to_json()["messages"]
    return found


def test_a_conversation_with_tools_is_one_branch_and_keeps_what_its_messages_carry(db: Store) -> None:
    thought = carried(tool_calls=[CALL], reasoning_content="Look it up.")
    conversations.record_turns(
        db,
        [turn("c1", [ASKED], None, carried=thought), turn("c2", [ASKED, CALLED, RESULT], "Yes, rain.")],
    )
    asked, called, result, answer = kept(db)
    assert json.loads(asked["tools"])[0]["function"]["name"] == "weather"
    assert (called["tool_calls"], called["reasoning_content"]) == ([CALL], "Look it up.")
    assert called["completion_id"] == "c1"
    assert (result["tool_call_id"], result["content"]) == ("c1", "rain")
    assert answer["content"] == "Yes, rain."
    assert "carried" not in answer
    assert verify.verify(db) == []


def test_an_answer_keeps_how_long_its_model_thought(db: Store) -> None:
    thought = carried(reasoning_content="Look it up.")
    conversations.record_turns(
        db,
        [
            turn("c1", [ASKED], "Rain.", carried=thought, thought_s=4.2),
            turn("c2", [ASKED, {"role": "assistant", "content": "Rain."}, ASKED | {"tools": None}], "Yes."),
        ],
    )
    assert [message["thought_s"] for message in kept(db)] == [None, 4.2, None, None]


def test_conversations_are_found_by_a_text_in_any_of_their_branches(db: Store) -> None:
    conversations.record_turns(
        db, [turn("c1", [ASKED], "Heavy RAIN, 100%."), turn("c2", [ASKED], "I cannot look.")]
    )
    for text in ("rain", "heavy Rain", "100%", "cannot", "in ulm", None, ""):
        assert [found.id for found in stored_conversations.list_recent(db, search=text)] == ["conv"], text
    for text in ("snow", "r_in", "%rain", "lookin"):
        assert stored_conversations.list_recent(db, search=text) == [], text
    assert stored_conversations.list_recent(db, owner="somebody else", search="rain") == []


def test_another_call_or_other_tools_are_another_branch(db: Store) -> None:
    other = {**CALL, "function": {"name": "weather", "arguments": '{"town": "Bern"}'}}
    conversations.record_turns(
        db,
        [
            turn("c1", [ASKED], None, carried=carried(tool_calls=[CALL])),
            turn("c2", [ASKED], None, carried=carried(tool_calls=[other])),
            turn("c3", [{"role": "user", "content": "Rain in Ulm?"}], "I cannot look."),
        ],
    )
    assert [m["content"] for m in kept(db)] == ["Rain in Ulm?", "I cannot look."]
    assert db.read().execute("select count(*) from messages").fetchone() == (5,)


def test_a_liked_call_and_a_liked_answer_are_rows_with_their_tools(db: Store) -> None:
    conversations.record_turns(
        db,
        [
            turn("c1", [ASKED], None, carried=carried(tool_calls=[CALL])),
            turn("c2", [ASKED, CALLED, RESULT], "Yes, rain."),
            turn("c3", [ASKED, CALLED, RESULT], "", carried=carried(reasoning_content="Hm.")),
        ],
    )
    conversations.like(db, "c1", True)
    conversations.like(db, "c2", True)
    with pytest.raises(Conflict, match="no text"):
        conversations.like(db, "c3", True)
    answered, called = (record.demonstration for record in demonstrations.list_page(db))
    assert called.completion[0].to_json()["tool_calls"] == [CALL]
    assert answered.prompt[1] == called.completion[0]
    assert answered.prompt[0] == called.prompt[0] == conversation([ASKED])[0]
    rows = {row["prompt"][-1]["role"]: row for row in likes.list_recent(db)}
    assert rows["tool"]["prompt"][1]["tool_calls"] == rows["user"]["completion"][0]["tool_calls"] == [CALL]
    assert rows["tool"]["prompt"][0]["tools"] == rows["user"]["prompt"][0]["tools"]


def test_personal_data_is_redacted_in_calls_and_definitions(db: Store) -> None:
    db.redact = redaction.redactor()
    mail = "ada@example.org"
    tools = [{"name": "send", "description": f"Mail to {mail}", "parameters": {"maximum": 491701234567}}]
    call = {"type": "function", "function": {"name": "send", "arguments": json.dumps({"to": mail})}}
    asked = {"role": "user", "content": "Send.", "tools": tools}
    conversations.record_turns(db, [turn("c1", [asked], None, carried=carried(tool_calls=[call]))])
    assert mail not in json.dumps(kept(db))
    assert json.loads(kept(db)[0]["tools"])[0]["function"]["parameters"] == {"maximum": 491701234567}


@pytest.mark.parametrize(
    ("tools", "named"),
    [
        ("weather", "tools"),
        ({"name": "weather"}, "tools"),
        ([{"type": "retrieval"}], "tools[0]"),
        ([{"type": "function", "function": {}}], "tools[0].function.name"),
        ([{"name": "f", "parameters": []}], "tools[0].function.parameters"),
        ([{"name": "f", "description": 1}], "tools[0].function.description"),
        ([{"name": "f", "parameters": {"a": float("nan")}}], "tools"),
        ([{"name": "\ud800"}], "tools"),
    ],
)
def test_tools_that_are_none_are_refused_by_name(tools: object, named: str) -> None:
    with pytest.raises(Invalid) as refused:
        conversation([{**ASKED, "tools": tools}])
    assert refused.value.field == f"messages[0].{named}"


def test_tools_stand_at_the_first_message_alone() -> None:
    with pytest.raises(Invalid, match=r"messages\[1\].tools"):
        conversation([{"role": "user", "content": "Hi"}, {**ASKED}])


CALLS = Candidate("", carried=carried(tool_calls=[CALL], reasoning_content="Look it up."))
WORDS = Candidate("Yes, rain.", carried=carried(reasoning_content="Guess."))


@pytest.mark.parametrize("messages", [[ASKED], [ASKED, CALLED, RESULT]])
def test_a_vote_between_a_call_and_words_is_a_pair_with_all_that_they_carry(
    db: Store, messages: list[dict[str, Any]]
) -> None:
    made = comparisons.create(db, messages, [CALLS, WORDS], "assistant")
    found = comparisons.get(db, made.id)
    assert found.messages == conversation(messages)
    side = "a" if found.a.carried == CALLS.carried else "b"
    assert found.blind()[f"{side}_message"]["tool_calls"] == [CALL]
    vote = comparisons.vote(db, made.id, side, "ada", better="It rains in Ulm, and all day long.")
    rows = {row.source: row.pair for row in pairs.list_page(db) if row.id in vote.pairs}
    assert rows["vote"].prompt == conversation(messages)
    assert rows["vote"].chosen == (CALLS.message,)
    assert rows["vote"].rejected == (WORDS.message,)
    assert verify.verify(db) == []


def test_when_both_are_bad_each_is_a_dislike_with_its_calls(db: Store) -> None:
    made = comparisons.create(db, [ASKED], [CALLS, Candidate("No.")], "assistant")
    comparisons.vote(db, made.id, "both_bad", "ada")
    disliked = {row["completion"][0]["content"]: row["completion"][0] for row in likes.list_recent(db)}
    assert disliked[""]["tool_calls"] == [CALL]
    assert disliked["No."] == {"role": "assistant", "content": "No."}


def test_answers_that_differ_in_reasoning_alone_make_no_pair(db: Store) -> None:
    other = Candidate("Yes, rain.", carried=carried(reasoning_content="Looked."))
    made = comparisons.create(db, [ASKED], [WORDS, other], "assistant")
    assert comparisons.vote(db, made.id, "a", "ada").pairs == ()


def test_candidates_and_prompts_are_redacted_in_what_they_carry(db: Store) -> None:
    db.redact = redaction.redactor()
    call = {**CALL, "function": {"name": "send", "arguments": '{"to": "ada@example.org"}'}}
    made = comparisons.create(db, [ASKED], [Candidate("", carried=carried(tool_calls=[call])), WORDS])
    assert {"ada@example.org" in side.carried for side in (made.a, made.b)} == {False}
    assert any("[email]" in side.carried for side in (made.a, made.b))


def test_recorded_answers_with_calls_can_be_chosen_between(db: Store) -> None:
    conversations.record_turns(
        db,
        [
            turn("c1", [ASKED], None, carried=carried(tool_calls=[CALL])),
            turn("c2", [ASKED], "I guess rain."),
        ],
    )
    vote = choices.choose(db, "c1", "c2", "ada")
    (row,) = pairs.list_page(db)
    assert vote.pairs == (row.id,)
    assert row.pair.prompt == conversation([ASKED])
    assert row.pair.chosen == conversation([CALLED])


def test_erasing_reaches_comparisons_that_leave_out_reasoning(db: Store) -> None:
    thought = carried(tool_calls=[CALL], reasoning_content="Look it up.")
    conversations.record_turns(
        db,
        [turn("c1", [ASKED], None, carried=thought), turn("c2", [ASKED, CALLED, RESULT], "Yes, rain.")],
    )
    made = comparisons.create(
        db, [ASKED, CALLED, RESULT], [CALLS, WORDS], source="shadow", owners=["user ada"]
    )
    comparisons.vote(db, made.id, "a", "bob")
    erasure.erase_person(db, "ada", actor="ops")
    assert comparisons.list_all(db) == []
    assert pairs.list_page(db) == []


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([ASKED, RESULT], "messages[1].role"),
        ([ASKED, CALLED, {**RESULT, "tool_call_id": "c9"}], "messages[2].tool_call_id"),
    ],
)
def test_a_result_without_its_call_is_refused_by_place(messages: list[dict[str, Any]], field: str) -> None:
    tool_results.check(conversation([ASKED, CALLED, RESULT, RESULT]))
    with pytest.raises(Invalid) as refused:
        tool_results.check(conversation(messages))
    assert refused.value.field == field


def test_plain_messages_keep_their_ids(db: Store) -> None:
    conversations.record_turns(db, [turn("c1", [{"role": "user", "content": "Hi"}], "Hello.")])
    asked = hashlib.sha256(b"conv\0\0user\0Hi").hexdigest()
    answered = hashlib.sha256(f"conv\0{asked}\0assistant\0Hello.".encode()).hexdigest()
    assert [m["id"] for m in kept(db)] == [asked, answered]
    same = replace(turn("c2", [{"role": "user", "content": "Hi"}], "Hello."), carried="")
    conversations.record_turns(db, [same])
    assert db.read().execute("select count(*) from messages").fetchone() == (2,)
