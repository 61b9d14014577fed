"""In a real browser: an answer outlives the page that asked for it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.test_browser import open_chat, say, until

pytestmark = pytest.mark.browser


def asked(screens: Screens) -> int:
    return sum(path == "/v1/chat/completions" for _, path, *_ in screens.stub.requests)


def test_an_answer_goes_on_over_a_reload_and_without_a_page(page: Page, screens: Screens) -> None:
    screens.stub.held = True
    open_chat(page, screens)
    log, stop = page.locator("#chat-log"), page.locator("#chat-stop")
    say(page, "Explain tides")
    expect(log).to_contain_text("Tides")
    page.wait_for_url(re.compile("c=conv-"))
    page.reload()
    expect(log).to_contain_text("Explain tides")
    expect(log).to_contain_text("Tides")
    expect(stop).to_be_visible()
    screens.stub.held = False
    expect(page.locator(".tt-by")).to_have_count(1)
    expect(log).to_contain_text(screens.stub.reply)
    expect(stop).to_be_hidden()
    expect(page.locator(".tt-conversation")).to_have_count(1)

    screens.stub.held, screens.stub.reply = True, "Waves are wind."
    say(page, "And waves?")
    expect(log).to_contain_text("Waves")
    address = page.url
    page.goto("about:blank")
    screens.stub.held = False
    until(lambda: len(screens.stub.conversations[address.split("c=")[1]]["messages"]) == 4, "it ended")
    page.goto(address)
    expect(log).to_contain_text("Waves are wind.")
    assert (asked(screens), screens.stub.cancelled) == (2, 0), "no answer was begun again or cut"

    screens.stub.held, screens.stub.reply = True, "Never said."
    say(page, "And?")
    expect(log).to_contain_text("Never")
    page.reload()
    expect(log).to_contain_text("Never")
    stop.click()
    until(lambda: screens.stub.cancelled == 1, "the generation went on")
    screens.stub.held = False
    expect(page.locator("#chat-send")).to_be_visible()
    expect(page.locator(".tt-cut")).to_contain_text("This answer was stopped.")


def test_it_is_said_how_full_a_conversation_is_and_what_to_do(page: Page, screens: Screens) -> None:
    screens.stub.reply = "Ten words."
    open_chat(page, screens)
    say(page, "Explain tides")
    expect(page.locator("#chat-use")).to_have_text("4 of 2,048 tokens (0%)")
    screens.stub.max_model_len = 8
    say(page, "Once more")
    expect(page.locator("#chat-use")).to_contain_text(
        "8 of 8 tokens (100%) Almost full: begin a new conversation"
    )
    full = "This model's maximum context length is 8 tokens. However, you requested 9 tokens."
    screens.stub.fail_chat = (400, full)
    say(page, "And again")
    expect(page.locator(".toast-body")).to_contain_text("begin a new one (N), or reword an earlier message")
    expect(page.locator("#chat-input textarea")).to_have_value("And again")
    page.locator("#chat-new").click()
    expect(page.locator("#chat-use")).to_have_text("")
