"""Rank with tools: what is shown of a comparison, and what a drawn prompt sends on."""

from __future__ import annotations

from typing import Any

from feedback_ui import dialogue
from feedback_ui.bubbles import response
from feedback_ui.rank.actions import split_prompt

TOOLS = '[{"type":"function","function":{"name":"weather"}}]'
ASKED: dict[str, Any] = {"role": "user", "content": "Ulm?", "tools": TOOLS}
CALL = {"id": "x", "type": "function", "function": {"name": "weather", "arguments": '{"town":"<b>"}'}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL], "reasoning_content": "Look."}


def test_a_drawn_first_message_is_compared_with_its_tools() -> None:
    assert split_prompt([ASKED]).messages() == [ASKED]


def test_a_response_that_calls_a_tool_is_a_card_with_its_thinking_folded() -> None:
    html = response("a", "", CALLED)
    assert 'class="tt-call"' in html
    assert "&lt;b&gt;" in html
    assert "<b>&" not in html
    assert 'class="tt-thinking" data-key="thinking a 0"' in html
    assert "tt-call" not in response("b", "Yes.", None)


def test_the_conversation_of_a_comparison_shows_tools_and_results() -> None:
    rows = [ASKED, CALLED, {"role": "tool", "content": "rain", "tool_call_id": "x"}, ASKED | {"tools": None}]
    html = dialogue.messages(rows)
    assert html.count('class="tt-message') == 3
    assert "1 tool" in html
    assert "rain" in html


def test_thinking_is_open_where_whole_responses_are_compared() -> None:
    assert "<details open" in response("a", "", CALLED, unfolded=True)
    assert "<details open" not in response("a", "", CALLED)
    within = "<think>Look.</think>Rain."
    assert response("a", within, None, unfolded=True).count("<details open") == 1
    assert "<details open" not in response("a", within, None)
    written = '<details class="tt-thinking">'
    assert "<details" not in response("a", written, None, unfolded=True)
