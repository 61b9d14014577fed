"""What only a browser can show: keys, thumbs, reload, focus, a loading engine, narrow windows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.feedback_ui.conftest import Screens

pytestmark = pytest.mark.browser

WRITE_AT_ONCE = """() => new MutationObserver((_, observer) => {
    const box = document.querySelector("#rank-better textarea");
    if (!box) return;
    observer.disconnect();
    box.value = "By the Moon.";
    box.dispatchEvent(new Event("input", {bubbles: true}));
    window.written = true;
}).observe(document.body, {childList: true, subtree: true})"""


def until(condition: Callable[[], object], why: str, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


def say(page: Page, text: str) -> None:
    expect(page.locator("#chat-send")).to_be_visible()
    page.locator("#chat-input textarea").fill(text)
    page.locator("#chat-input textarea").press("Enter")


def open_chat(page: Page, screens: Screens, query: str = "") -> None:
    page.goto(screens.url + "/" + query)
    expect(page.locator("#chat-model input")).to_have_value("assistant")


class TestChat:
    def test_talk_rate_copy_reload(self, page: Page, screens: Screens) -> None:
        foreign: list[str] = []
        page.on(
            "request",
            lambda r: (
                foreign.append(r.url) if not r.url.startswith((screens.url, "data:", "blob:")) else None
            ),
        )
        open_chat(page, screens)
        say(page, "Explain tides")
        expect(page.locator(".tt-by")).to_have_text(re.compile(r"assistant@1 · stable · \d"))
        expect(page.locator("#chat-input textarea")).to_have_value("")
        page.get_by_label("Like", exact=True).click()
        until(lambda: list(screens.stub.likes.values()) == [True], "the thumb did not reach the platform")
        page.get_by_label("Copy message").last.click()
        assert page.evaluate("navigator.clipboard.readText()").strip() == screens.stub.reply
        page.wait_for_url(re.compile("c=conv-"))
        page.reload()
        expect(page.locator("#chat-log")).to_contain_text(screens.stub.reply)
        expect(page.locator(".tt-conversation")).to_have_count(1)
        assert foreign == []

    def test_a_message_sent_before_the_page_is_complete_is_answered(
        self, page: Page, screens: Screens
    ) -> None:
        screens.stub.models_s = 1.5
        page.goto(screens.url)
        say(page, "Explain tides")
        expect(page.locator(".tt-by")).to_be_visible(timeout=30_000)
        expect(page.locator("#chat-model input")).to_have_value("assistant")
        expect(page.locator("#chat-log")).to_contain_text(screens.stub.reply)

    @pytest.mark.parametrize("path", ["", "rank", "ops"])
    def test_a_page_has_no_button_that_nobody_named(self, page: Page, screens: Screens, path: str) -> None:
        page.goto(f"{screens.url}/{path}")
        expect(page.locator("button:visible").first).to_be_visible()
        page.wait_for_timeout(500)
        # what Gradio writes on a button without a text
        assert "Run" not in page.locator("button:visible").all_inner_texts()

    def test_a_message_is_answered_while_the_answer_before_is_not_recorded_yet(
        self, page: Page, screens: Screens
    ) -> None:
        screens.stub.records = False
        open_chat(page, screens)
        say(page, "Explain tides")
        expect(page.locator(".tt-by")).to_have_count(1)
        expect(page.locator(".tt-conversation")).to_have_count(0)
        say(page, "In one sentence")
        expect(page.locator(".tt-by")).to_have_count(2)
        screens.stub.records = True
        expect(page.locator(".tt-conversation")).to_have_count(1)

    def test_what_is_shared_is_remembered(self, page: Page, screens: Screens) -> None:
        open_chat(page, screens)
        expect(page.locator(".tt-sharing")).to_contain_text("Who may use my conversations")
        expect(page.get_by_label("They may, and models may learn from them")).to_be_checked()
        box, height = page.get_by_label("Nobody").locator("xpath=..").bounding_box(), 800
        assert box is not None
        assert box["height"] >= 20, "it is squeezed"
        assert box["y"] + box["height"] <= height, "it is cut off"
        page.get_by_label("Nobody").check()
        until(lambda: screens.stub.share == "none", "the choice did not reach the platform")
        page.reload()
        expect(page.get_by_label("Nobody")).to_be_checked()

    def test_stop_keeps_what_was_said(self, page: Page, screens: Screens) -> None:
        screens.stub.delta_s = 1.0
        open_chat(page, screens)
        say(page, "Explain tides")
        expect(page.locator("#chat-log")).to_contain_text("Tides are")
        page.locator("#chat-stop").click()
        expect(page.locator("#chat-send")).to_be_visible()
        until(lambda: screens.stub.cancelled == 1, "the generation went on")
        expect(page.locator("#chat-log")).to_contain_text("Tides are")
        expect(page.locator("#chat-log")).not_to_contain_text("of the Moon")

    def test_regenerate_and_edit(self, page: Page, screens: Screens) -> None:
        open_chat(page, screens)
        say(page, "Explain tides")
        expect(page.locator(".tt-by")).to_be_visible()
        screens.stub.reply = "A second answer."
        page.get_by_label("Retry").click()
        expect(page.locator("#chat-log")).to_contain_text("A second answer.")
        assert [m["content"] for m in screens.stub.requests[-1][2]["messages"]] == ["Explain tides"]
        page.get_by_label("Edit").first.click()
        page.locator("#chat-log textarea").fill("Explain waves")
        page.get_by_label("Submit").click()
        until(
            lambda: screens.stub.requests[-1][2]["messages"][-1]["content"] == "Explain waves",
            "the edit was not sent",
        )

    def test_a_loading_engine_is_shown_and_the_message_kept(self, page: Page, screens: Screens) -> None:
        screens.stub.ready = False
        open_chat(page, screens)
        expect(page.locator("#tt-notice")).to_contain_text("The model is loading")
        expect(page.locator("#tt-notice")).to_contain_text("Application startup complete.")
        say(page, "Are you there?")
        expect(page.locator("#chat-log")).to_contain_text("Are you there?")
        screens.stub.ready = True
        expect(page.locator(".tt-by")).to_be_visible()
        expect(page.locator("#tt-notice")).not_to_contain_text("loading")

    def test_a_refusal_gives_the_message_back(self, page: Page, screens: Screens) -> None:
        screens.stub.fail_chat = (400, "max_tokens is too large")
        open_chat(page, screens)
        say(page, "Explain tides")
        expect(page.locator(".toast-body")).to_contain_text("max_tokens is too large")
        expect(page.locator("#chat-input textarea")).to_have_value("Explain tides")

    def test_compare_two_answers(self, page: Page, screens: Screens) -> None:
        open_chat(page, screens)
        page.locator("#chat-input textarea").fill("How do tides work?")
        page.locator("#chat-compare").click()
        expect(page.locator("#response-b")).to_contain_text("gravity")
        page.locator("body").press("b")
        expect(page.locator(".tt-by")).to_have_text("assistant@1")
        expect(page.locator("#chat-pair")).to_be_hidden()
        assert [vote["choice"] for vote in screens.stub.votes] == ["b"]
        assert 0 < screens.stub.votes[0]["seconds"] < 60

    def test_a_turn_of_pair_mode_is_blind_and_the_chosen_answer_stays(
        self, page: Page, screens: Screens
    ) -> None:
        screens.stub.pairs_offered = True
        open_chat(page, screens)
        say(page, "How do tides work?")
        expect(page.locator("#response-a")).to_contain_text("The Moon pulls")
        expect(page.locator("#response-b")).to_contain_text("gravity")
        expect(page.locator("#chat-log")).to_contain_text("How do tides work?")
        assert "assistant@" not in page.locator("#chat-pair").inner_text()
        page.locator("#vote-a").click()
        expect(page.locator("#chat-pair")).to_be_hidden()
        expect(page.locator("#chat-log")).to_contain_text("The Moon pulls")
        expect(page.locator(".tt-by")).to_have_text("assistant@1")
        assert [(vote["choice"], vote["seconds"] > 0) for vote in screens.stub.votes] == [("a", True)]
        screens.stub.pairs_offered = False
        say(page, "And waves?")
        expect(page.locator(".tt-by")).to_have_count(2)
        sent = screens.stub.requests[-1][2]["messages"]
        assert [m["role"] for m in sent] == ["user", "assistant", "user"], (
            "the chosen answer is part of the talk"
        )

    def test_past_conversations_and_a_new_one(self, page: Page, screens: Screens) -> None:
        open_chat(page, screens)
        say(page, "Explain tides")
        expect(page.locator(".tt-conversation")).to_have_count(1)
        page.locator("#chat-new").click()
        expect(page.locator("#chat-log")).not_to_contain_text(screens.stub.reply)
        page.locator(".tt-conversation").click()
        expect(page.locator("#chat-log")).to_contain_text(screens.stub.reply)


class TestRank:
    def test_by_keyboard_alone_and_blind_until_the_vote(self, page: Page, screens: Screens) -> None:
        screens.stub.add_comparison([{"role": "user", "content": "Why is the sea salty?"}])
        page.goto(screens.url + "/rank")
        expect(page.locator("#rank-tally")).to_contain_text("1 waiting")
        expect(page.locator("#rank-asked")).to_contain_text("Why is the sea salty?")
        assert "assistant@" not in page.content()
        page.locator("body").press("t")
        expect(page.locator("#rank-outcome")).to_contain_text("assistant@1")
        expect(page.locator("#rank-tally")).to_contain_text("1 vote this session")
        assert screens.stub.votes[0]["choice"] == "tie"

    def test_keys_are_ignored_while_typing(self, page: Page, screens: Screens) -> None:
        page.goto(screens.url + "/rank")
        page.locator("#rank-draw").click()
        expect(page.locator("#rank-prompt textarea")).to_have_value("How do tides work?")
        page.locator("#rank-compare").click()
        expect(page.locator("#vote-a")).to_be_visible()
        page.locator("#rank-better-fold > button, #rank-better-fold .label-wrap").first.click()
        page.locator("#rank-from-a").click()
        expect(page.locator("#rank-better textarea")).to_have_value(re.compile("The Moon pulls"))
        page.locator("#rank-better textarea").press("End")
        page.locator("#rank-better textarea").type(" abtxn")
        assert screens.stub.votes == []
        page.locator("#vote-both-bad").click()
        expect(page.locator("#rank-outcome")).to_contain_text("demonstration")
        assert screens.stub.votes[0]["choice"] == "both_bad"
        assert screens.stub.votes[0]["better"].endswith("abtxn")

    def test_words_written_as_the_fold_opens_stay(self, page: Page, screens: Screens) -> None:
        """An update that reaches a field only when its fold opens must not take what is written there already."""
        page.goto(screens.url + "/rank")
        page.locator("#rank-draw").click()
        expect(page.locator("#rank-prompt textarea")).to_have_value("How do tides work?")
        page.locator("#rank-compare").click()
        expect(page.locator("#vote-a")).to_be_visible()
        page.evaluate(WRITE_AT_ONCE)
        page.locator("#rank-better-fold > button, #rank-better-fold .label-wrap").first.click()
        page.wait_for_function("window.written")
        page.wait_for_timeout(500)
        page.locator("#vote-both-bad").click()
        expect(page.locator("#rank-outcome")).to_contain_text("demonstration")
        assert screens.stub.votes[0]["better"] == "By the Moon."
        page.locator("#rank-draw").click()
        expect(page.locator("#rank-prompt textarea")).to_have_value("How do tides work?")
        page.locator("#rank-compare").click()
        expect(page.locator("#vote-a")).to_be_visible()
        expect(page.locator("#rank-better textarea")).to_have_value("")

    def test_what_is_skipped_does_not_come_back(self, page: Page, screens: Screens) -> None:
        for asked in ("Why is the sea salty?", "Why is the sky blue?"):
            screens.stub.add_comparison([{"role": "user", "content": asked}])
        page.goto(screens.url + "/rank")
        expect(page.locator("#rank-asked")).to_contain_text("sea salty")
        page.locator("body").press("n")
        expect(page.locator("#rank-asked")).to_contain_text("sky blue")
        page.locator("body").press("a")
        expect(page.locator("#rank-outcome")).to_contain_text("assistant@1")
        page.locator("body").press("n")
        expect(page.locator("#rank-asked")).to_contain_text("How do tides work?")

    def test_the_next_comparison_is_sampled_while_this_one_is_read(
        self, page: Page, screens: Screens
    ) -> None:
        screens.stub.add_comparison([{"role": "user", "content": "Why is the sea salty?"}])
        page.goto(screens.url + "/rank")
        expect(page.locator("#rank-asked")).to_contain_text("sea salty")
        until(lambda: len(screens.stub.comparisons) == 2, "nothing was sampled ahead")
        next(reversed(screens.stub.comparisons.values()))["a"] = "Sampled ahead."
        page.locator("body").press("a")
        expect(page.locator("#rank-outcome")).to_contain_text("assistant@1")
        page.locator("body").press("n")
        expect(page.locator("#response-a")).to_contain_text("Sampled ahead.")
        assert len(screens.stub.votes) == 1

    def test_next_goes_on_when_the_queue_is_empty(self, page: Page, screens: Screens) -> None:
        page.goto(screens.url + "/rank")
        expect(page.locator("#rank-tally")).to_contain_text("0 waiting")
        page.locator("#rank-next").click()
        expect(page.locator("#rank-asked")).to_contain_text("How do tides work?")
        expect(page.locator("#vote-a")).to_be_enabled()


def test_a_narrow_window_has_no_sideways_scroll(chromium: Browser, screens: Screens) -> None:
    page = chromium.new_page(viewport={"width": 420, "height": 900})
    for path, landmark in (("/", "#chat-input"), ("/rank", "#rank-prompt"), ("/ops", ".tt-tile")):
        page.goto(screens.url + path)
        page.locator(landmark).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
    page.goto(screens.url)
    page.locator("[data-tt=drawer]").click()
    expect(page.locator("#chat-new")).to_be_in_viewport()
    page.close()


def test_the_colour_scheme_is_kept(page: Page, screens: Screens) -> None:
    page.goto(screens.url)
    page.get_by_label("Switch between light and dark").click()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    page.goto(screens.url + "/rank")
    page.locator("#rank-prompt").wait_for()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
