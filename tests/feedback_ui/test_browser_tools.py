"""In a real browser: thinking, tool calls and their results in Chat and Rank."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.test_browser import open_chat, say, until
from tests.feedback_ui.test_conversation import WITH_TOOLS
from tests.feedback_ui.test_rank_tools import ASKED, CALL

pytestmark = pytest.mark.browser

INTRUDER = '<img src=x onerror="window.intruded = true"><script>window.intruded = true</script>'


def record(screens: Screens) -> list[dict[str, object]]:
    """Put a conversation with tools into the double's memory; its results hold HTML that would run."""
    messages = [*WITH_TOOLS[:4], {**WITH_TOOLS[4], "content": INTRUDER}, WITH_TOOLS[5]]
    screens.stub.conversations["conv-t"] = {"id": "conv-t", "title": "Ulm", "messages": messages}
    return messages


def test_a_conversation_with_tools_is_shown_as_text_and_continued_whole(page: Page, screens: Screens) -> None:
    record(screens)
    open_chat(page, screens, "?c=conv-t")
    log = page.locator("#chat-log")
    expect(log.locator(".tt-call")).to_have_count(2)
    expect(log.locator(".tt-call").first.locator("pre").last).to_have_text(INTRUDER)
    thinking = log.locator(".tt-thinking .tt-text").first
    expect(thinking).to_be_hidden()
    log.locator(".tt-thinking summary").first.click()
    expect(thinking).to_have_text("I have to <look>.")
    expect(page.locator("#chat-context")).to_contain_text("System prompt · 1 tool")
    page.get_by_label("Copy message").last.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert 'weather({"town":"Ulm"})' in copied
    assert INTRUDER in copied
    say(page, "And tomorrow?")
    expect(page.locator(".tt-by")).to_have_count(2)
    sent = screens.stub.requests[-1][2]["messages"]
    assert [message.get("tool_call_id") for message in sent] == [None, None, None, "b", "a", None, None]
    assert len(sent[2]["tool_calls"]) == 2
    assert sent[0]["tools"] == WITH_TOOLS[0]["tools"]
    assert page.evaluate("window.intruded") is None


def test_thinking_streams_folded_and_an_answer_is_asked_again_with_its_results(
    page: Page, screens: Screens
) -> None:
    record(screens)
    open_chat(page, screens, "?c=conv-t")
    expect(page.locator("#chat-log .tt-call")).to_have_count(2)
    screens.stub.deltas = [{"reasoning": "Both came, "}, {"reasoning": "again."}, {"content": "Rain; sun."}]
    page.get_by_label("Retry").click()
    expect(page.locator("#chat-log")).to_contain_text("Rain; sun.")
    expect(page.locator("#chat-log")).not_to_contain_text("Rain, sun.")
    expect(page.locator("#chat-log .tt-call")).to_have_count(2)
    expect(page.locator("#chat-log .tt-thinking summary").last).to_contain_text("Thought for")
    assert screens.stub.requests[-1][2]["messages"][-1]["role"] == "tool"
    page.get_by_label("Dislike", exact=True).click()
    until(lambda: list(screens.stub.likes.values()) == [False], "the thumb did not reach the new answer")
    page.wait_for_url(re.compile("c=conv-"))
    page.reload()
    expect(page.locator("#chat-log .tt-thinking summary").last).to_have_text("Thought for 4.2 s")


def compare(page: Page, screens: Screens) -> None:
    """Open Rank at a comparison of a call with an answer, both with thinking."""
    called = {
        "role": "assistant",
        "content": "",
        "tool_calls": [CALL],
        "reasoning_content": "I have to look.",
    }
    answered = {"role": "assistant", "content": "Rain.", "reasoning_content": "Ulm is wet."}
    screens.stub.add_comparison([ASKED], "", "Rain.", a_message=called, b_message=answered)
    # Beside one that others hold, none is sampled ahead: it could come before the next that a test adds.
    screens.stub.add_comparison([ASKED])["queued"] = False
    page.goto(screens.url + "/rank")
    expect(page.locator("#response-b")).to_contain_text("Rain.")


def test_rank_compares_a_call_with_an_answer_while_thinking_is_folded(page: Page, screens: Screens) -> None:
    compare(page, screens)
    card = page.locator("#response-a .tt-call")
    expect(card.locator("b")).to_have_text("weather")
    expect(card.locator("pre")).to_contain_text("<b>")
    expect(page.locator("#rank-asked")).to_contain_text("1 tool")
    thinking = page.locator("#rank-table .tt-thinking .tt-text")
    expect(thinking).to_have_count(2)
    expect(thinking.first).to_be_hidden()
    page.locator("#response-a .tt-thinking summary").click()
    expect(thinking.first).to_have_text("I have to look.")
    page.keyboard.press("b")
    expect(page.locator("#rank-outcome")).to_contain_text("Your vote counts")
    assert screens.stub.votes[-1]["choice"] == "b"
    compare(page, screens)
    expect(thinking.first).to_be_hidden()


def test_rank_shows_thinking_open_where_whole_responses_are_compared(page: Page, screens: Screens) -> None:
    screens.stub.rank_show = "whole"
    compare(page, screens)
    expect(page.locator("#response-a .tt-thinking .tt-text")).to_be_visible()
    expect(page.locator("#response-b .tt-thinking .tt-text")).to_have_text("Ulm is wet.")
