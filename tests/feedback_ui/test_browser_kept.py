"""In a real browser: files to take away, words that a reload keeps, the model that was chosen, keys, a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.double.rows import release
from tests.feedback_ui.test_browser import open_chat, say
from tests.feedback_ui.test_browser_tools import ASKED, record

pytestmark = pytest.mark.browser


@pytest.fixture
def phone(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 375, "height": 740}, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


def test_a_conversation_is_saved_as_json_and_as_markdown(page: Page, screens: Screens) -> None:
    messages = record(screens)
    open_chat(page, screens, "?c=conv-t")
    for form, name in (("json", "ulm-and-bern.json"), ("markdown", "ulm-and-bern.md")):
        page.locator("#chat-export summary").click()
        with page.expect_download() as download:
            page.locator(f"#chat-export [data-id={form}]").click()
        assert download.value.suggested_filename == name
        text = Path(download.value.path()).read_text()
        if form == "json":
            assert [m["content"] for m in json.loads(text)["messages"]] == [m["content"] for m in messages]
        else:
            assert "## Assistant (assistant@1)" in text
        expect(page.locator(f"#chat-export [data-id={form}]")).to_be_hidden()


def test_an_empty_conversation_offers_no_export(page: Page, screens: Screens) -> None:
    open_chat(page, screens)
    expect(page.locator("#chat-export")).to_have_count(0)
    say(page, "Explain tides")
    expect(page.locator("#chat-export summary")).to_be_visible()
    page.locator("#chat-new").click()
    expect(page.locator("#chat-export")).to_have_count(0)


def test_words_that_are_not_sent_survive_a_reload(page: Page, screens: Screens) -> None:
    box = page.locator("#chat-input textarea")
    open_chat(page, screens)
    box.fill("Half a tho")
    page.wait_for_function("sessionStorage.getItem('trimtab.draft.chat') === 'Half a tho'")
    page.reload()
    expect(box).to_have_value("Half a tho")
    box.press("Enter")
    expect(page.locator(".tt-by")).to_have_count(1)
    page.wait_for_function("sessionStorage.getItem('trimtab.draft.chat') === ''")
    expect(page).to_have_url(re.compile(r"\?c="))  # once the answer is whole
    page.reload()
    expect(page.locator(".tt-by")).to_have_count(1)
    expect(box).to_have_value("")


def test_the_model_that_was_chosen_is_chosen_after_a_reload_while_it_is_there(
    page: Page, screens: Screens
) -> None:
    screens.stub.releases.append(release("assistant@2", 2, "a-2", 60))
    open_chat(page, screens)
    model = page.locator("#chat-model input")
    model.click()
    page.get_by_role("option", name="assistant@2 (this release only)").click()
    page.reload()
    expect(model).to_have_value("assistant@2 (this release only)")
    screens.stub.releases.pop()
    page.reload()
    expect(model).to_have_value("assistant")


def test_keys_are_shown_and_lead_to_the_box(page: Page, screens: Screens) -> None:
    open_chat(page, screens)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_contain_text("Next, or skip this one")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.keyboard.press("/")
    expect(page.locator("#chat-input textarea")).to_be_focused()
    page.keyboard.type("what?/n")
    expect(page.locator("#chat-input textarea")).to_have_value("what?/n")
    page.keyboard.press("Escape")
    page.get_by_label("Keyboard shortcuts").click()
    expect(dialog).to_be_visible()


def test_a_phone_shows_the_conversation_and_not_its_settings(phone: Page, screens: Screens) -> None:
    record(screens)
    open_chat(phone, screens, "?c=conv-t")
    expect(phone.locator("#chat-share")).to_be_hidden()
    log = phone.locator("#chat-log").bounding_box()
    assert log is not None
    assert log["height"] >= 360
    phone.locator("[data-tt=sharing]").tap()
    expect(phone.get_by_label("Nobody")).to_be_in_viewport()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_phone_shows_the_responses_before_the_next_prompt(phone: Page, screens: Screens) -> None:
    screens.stub.add_comparison([ASKED])
    phone.goto(screens.url + "/rank")
    expect(phone.locator("#response-a")).to_be_in_viewport(ratio=1)
    expect(phone.locator("#vote-a")).to_be_in_viewport(ratio=1)
    response, prompt = (phone.locator(name).bounding_box() for name in ("#response-b", "#rank-prompt"))
    assert response is not None
    assert prompt is not None
    assert response["y"] + response["height"] <= prompt["y"]


def test_conversations_are_found_by_what_was_said_in_them(page: Page, screens: Screens) -> None:
    record(screens)
    said = [
        {"role": "user", "content": "Name a colour"},
        {"role": "assistant", "content": "Teal & <b>blue</b>."},
    ]
    screens.stub.conversations["conv-c"] = {"id": "conv-c", "title": "Colours", "messages": said}
    open_chat(page, screens)
    listed = page.locator(".tt-conversation")
    expect(listed).to_have_count(2)
    page.locator("#chat-search textarea, #chat-search input").fill("& <B>")
    expect(listed).to_have_count(1)
    listed.click()
    expect(page.locator("#chat-log")).to_contain_text("Teal & <b>blue</b>.")
    expect(listed).to_have_count(1)
    page.locator("#chat-search textarea, #chat-search input").fill("nobody said this")
    expect(page.locator("#chat-history")).to_contain_text("No conversation has this in it.")
    page.locator("#chat-search textarea, #chat-search input").fill("")
    expect(listed).to_have_count(2)
