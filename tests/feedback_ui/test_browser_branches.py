"""In a real browser: versions of messages side by side, and answers that go on."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.test_browser import open_chat, say, until

pytestmark = pytest.mark.browser


def test_versions_of_a_message_are_kept_and_switched(page: Page, screens: Screens) -> None:
    screens.stub.reply = "First."
    open_chat(page, screens)
    log, arrows = page.locator("#chat-log"), page.locator(".tt-versions")
    say(page, "Explain tides")
    expect(page.locator(".tt-by")).to_be_visible()
    expect(arrows).to_have_count(0)
    screens.stub.reply = "Second."
    page.get_by_label("Retry").click()
    expect(log).to_contain_text("Second.")
    expect(arrows).to_contain_text("2 / 2")
    screens.stub.reply = "About waves."
    page.get_by_label("Edit").first.click()
    page.locator("#chat-log textarea").fill("Explain waves")
    page.get_by_label("Submit").click()
    expect(log).to_contain_text("About waves.")
    expect(arrows).to_contain_text("2 / 2")
    expect(page.locator("#chat-send")).to_be_visible()
    page.get_by_role("button", name="Earlier version").first.click()
    expect(log).to_contain_text("Explain tides")
    expect(arrows).to_have_text(["1 / 2", "2 / 2"])
    expect(page.locator("#chat-send")).to_be_visible()
    arrows.nth(1).get_by_role("button", name="Earlier version").click()
    expect(log).to_contain_text("First.")
    say(page, "Go on")
    expect(page.locator(".tt-by")).to_have_count(2)
    sent = [message["content"] for message in screens.stub.requests[-1][2]["messages"]]
    assert sent == ["Explain tides", "First.", "Go on"], "the branch that is shown goes on"
    page.reload()
    expect(arrows).to_have_text(["1 / 2", "1 / 2"])
    page.get_by_role("button", name="Later version").first.click()
    expect(log).to_contain_text("About waves.")


def test_a_cut_answer_goes_on_as_one(page: Page, screens: Screens) -> None:
    screens.stub.reply, screens.stub.finish_reason = "Tides are", "length"
    open_chat(page, screens)
    say(page, "Explain tides")
    expect(page.locator(".tt-cut")).to_contain_text("ended at its limit of tokens")
    screens.stub.reply, screens.stub.finish_reason = "the pull of the Moon.", "stop"
    expect(page.locator("#chat-send")).to_be_visible()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#chat-log .tt-text").last).to_contain_text("Tides are the pull of the Moon.")
    expect(page.locator(".tt-cut")).to_have_count(0)
    sent = screens.stub.requests[-1][2]
    assert sent["continue_final_message"] is True
    assert sent["add_generation_prompt"] is False
    assert sent["messages"][-1] == {"role": "assistant", "content": "Tides are "}
    expect(page.locator(".tt-versions")).to_contain_text("2 / 2")
    screens.stub.fail_chat = (400, "no")
    page.get_by_label("Retry").click()
    expect(page.locator(".toast-body")).to_be_visible()
    expect(page.locator("#chat-log")).to_contain_text("the pull of the Moon.")
    screens.stub.fail_chat, screens.stub.delta_s = None, 1.0
    page.get_by_label("Retry").click()
    expect(page.locator("#chat-log .tt-text").last).to_have_text("the")
    page.locator("#chat-stop").click()
    expect(page.locator(".tt-cut")).to_contain_text("This answer was stopped.")
    until(lambda: screens.stub.cancelled == 1, "the generation went on")
