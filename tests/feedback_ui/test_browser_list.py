"""In a real browser: the list of conversations is kept in order, and a conversation is shared."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.test_browser import open_chat

pytestmark = pytest.mark.browser


def talk(screens: Screens, id: str, asked: str) -> None:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"About {asked}."}]
    screens.stub.conversations[id] = {"id": id, "title": asked, "messages": messages}


def do(page: Page, title: str, act: str) -> None:
    row = page.locator(".tt-conversations > li", has_text=title)
    row.hover()
    row.get_by_label(f"Options of {title}").click()
    row.get_by_role("button", name=act, exact=True).click()


def answer(page: Page, text: str) -> None:
    page.locator(".tt-ask input").fill(text)
    page.locator(".tt-ask input").press("Enter")


def test_conversations_are_named_filed_pinned_deleted_and_restored(page: Page, screens: Screens) -> None:
    for id, asked in (("conv-a", "Tides"), ("conv-b", "Waves"), ("conv-c", "Boats")):
        talk(screens, id, asked)
    open_chat(page, screens, "?c=conv-a")
    listed: Locator = page.locator(".tt-conversation > span")
    expect(listed).to_have_text(["Boats", "Waves", "Tides"])
    do(page, "Tides", "Pin")
    expect(listed).to_have_text(["Tides", "Boats", "Waves"])
    do(page, "Waves", "Rename")
    answer(page, "Wind & <b>waves</b>")
    expect(listed).to_have_text(["Tides", "Boats", "Wind & <b>waves</b>"])
    do(page, "Boats", "Folder")
    answer(page, "Sea")
    folder = page.locator(".tt-folder")
    expect(folder).to_contain_text("Sea 1")
    folder.locator("summary").first.click()
    expect(folder.locator(".tt-conversation")).to_be_visible()
    expect(page.locator("#chat-log")).to_contain_text("About Tides.")

    do(page, "Tides", "Delete")
    expect(page.locator("#chat-log")).not_to_contain_text("About Tides.")
    expect(page.locator(".tt-undo")).to_contain_text("Deleted: Tides")
    expect(page).not_to_have_url(f"{screens.url}/?c=conv-a")
    page.locator(".tt-undo button").click()
    expect(page.locator(".tt-undo")).to_have_count(0)
    expect(listed.first).to_have_text("Tides")
    do(page, "Tides", "Delete")
    expect(page.locator(".tt-undo")).to_be_visible()
    page.reload()
    page.locator(".tt-deleted summary").click()
    expect(page.locator(".tt-deleted")).to_contain_text("erased for good in")
    page.locator(".tt-deleted button").click()
    expect(listed.first).to_have_text("Tides")


def test_a_link_is_copied_read_and_taken_back(page: Page, screens: Screens) -> None:
    talk(screens, "conv-a", "Tides")
    open_chat(page, screens, "?c=conv-a")
    do(page, "Tides", "Share")
    dialog = page.get_by_role("dialog", name="Read-only link")
    url = f"{screens.url}/?shared=token-of-conv-a"
    expect(dialog.locator("input")).to_have_value(url)
    dialog.get_by_role("button", name="Copy link").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == url
    reader = page.context.new_page()
    reader.goto(url)
    expect(reader.locator("#chat-shared")).to_contain_text("About Tides.")
    expect(reader.locator("#chat-input")).to_have_count(0)
    dialog.get_by_role("button", name="Stop sharing").click()
    expect(page.locator(".toast-body")).to_contain_text("leads nowhere")
    reader.reload()
    expect(reader.locator("#chat-shared")).to_contain_text("took it back")
    reader.locator(".tt-conversation").click()
    expect(reader.locator("#chat-log")).to_contain_text("About Tides.")


def test_a_long_conversation_is_found_by_keyboard_and_opens_at_its_end(page: Page, screens: Screens) -> None:
    talk(screens, "conv-a", "Tides")
    talk(screens, "conv-b", "Long & <b>winding</b>")
    rows = [{"role": ("user", "assistant")[n % 2], "content": f"text {n}."} for n in range(300)]
    screens.stub.conversations["conv-b"]["messages"] = rows
    open_chat(page, screens)
    expect(page.locator(".tt-conversation")).to_have_count(2)
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Go to or do")
    palette.locator("input").fill("<B>wind")
    expect(palette.get_by_role("option")).to_have_text(["Long & <b>winding</b>"])
    page.keyboard.press("Enter")
    log = page.locator("#chat-log")
    expect(log).to_contain_text("text 299.")
    expect(log).not_to_contain_text("text 259.")
    page.get_by_role("button", name="Show 160 of 260 earlier messages").click()
    expect(log).to_contain_text("text 100.")
    expect(log).not_to_contain_text("text 99.")
    page.keyboard.press("Control+k")
    palette.locator("input").fill("new conv")
    page.keyboard.press("Enter")
    expect(log).not_to_contain_text("text 299.")
    page.keyboard.press("Control+k")
    palette.locator("input").fill("rank")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{screens.url}/rank")
