"""A conversation as a file: what both forms hold."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from feedback_ui.chat.exporting import as_json, as_markdown, exported
from feedback_ui.conversation import Talk, Turn, from_record
from store.transfer import formats
from tests.feedback_ui.test_conversation import WITH_TOOLS

TALK = from_record({"id": "conv-t", "messages": WITH_TOOLS})


def test_json_is_openai_s_form_with_calls_results_and_tools() -> None:
    body = json.loads(as_json(TALK))
    assert body["tools"] == json.loads(WITH_TOOLS[0]["tools"])
    assert [message["role"] for message in body["messages"]] == [message["role"] for message in WITH_TOOLS]
    assert body["messages"][2]["tool_calls"] == WITH_TOOLS[2]["tool_calls"]
    assert [message.get("tool_call_id") for message in body["messages"]][3:5] == ["b", "a"]
    assert "release" not in as_json(TALK)
    assert formats.detect("demonstrations", body).startswith("openai"), "an import takes it"
    assert "tools" not in body["messages"][0]


def test_markdown_has_a_heading_per_message_and_texts_as_they_were_written() -> None:
    said = "Use\n\n```\n<b>\n```"
    thought = Turn(
        "assistant", said, "assistant@3", carried={"reasoning_content": "First\nthen"}, thought_s=4.2
    )
    result = Turn("tool", "````", carried={"tool_call_id": "x"})
    text = as_markdown(replace(TALK, turns=(Turn("user", "How?"), thought, result)))
    assert text == (
        "## User\n\nHow?\n\n## Assistant (assistant@3)\n\n> *Thought for 4.2 s*\n>\n> First\n> then\n\n"
        f"{said}\n\n## Tool result\n\n`````\n````\n`````\n"
    )


def test_markdown_shows_calls_with_their_arguments() -> None:
    assert 'Tool call: `weather`\n\n```json\n{\n  "town": "Ulm"\n}\n```' in as_markdown(TALK)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("Où est/Ulm: a\\b?", "où-est-ulm-a-b.md"),
        ("???", "conversation.md"),
        ("a " * 60, f"{'a-' * 20}"[:-1] + ".md"),
    ],
)
def test_a_file_is_named_after_the_first_words(asked: str, name: str) -> None:
    assert exported(Talk().said(asked), "markdown")["name"] == name


def test_an_answer_that_is_being_written_is_exported_as_far_as_it_is() -> None:
    talk = Talk().said("How?")
    empty = exported(talk.answered(Turn("assistant", "", done=False)), "json")
    assert json.loads(empty["text"])["messages"] == [{"role": "user", "content": "How?"}]
    part = exported(talk.answered(Turn("assistant", "By", done=False)), "json")
    assert json.loads(part["text"])["messages"][-1]["content"] == "By"
