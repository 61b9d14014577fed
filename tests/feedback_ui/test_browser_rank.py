"""Rank in a browser: by keys alone from the guidelines to a vote that is taken back, and with reasons by click."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.feedback_ui.conftest import Screens

pytestmark = pytest.mark.browser


def test_a_rater_needs_no_mouse(page: Page, screens: Screens) -> None:
    screens.stub.guidelines = "Be *kind*. <img src=x onerror=alert(1)>"
    for asked in ("Why is the sea salty?", "Why is the sky blue?", "What is fire?"):
        screens.stub.add_comparison(
            [{"role": "user", "content": asked}], "By its salt.", "By the salt of rivers."
        )
    page.goto(screens.url + "/rank")
    expect(page.locator("#rank-asked")).to_contain_text("sea salty")
    expect(page.locator("#rank-tally")).to_contain_text("3 days in a row")
    body = page.locator("body")
    body.press("g")
    expect(page.locator(".tt-guidelines")).to_contain_text("Be kind. <img src=x")
    page.keyboard.press("Escape")
    expect(page.locator(".tt-guidelines")).to_be_hidden()
    body.press("v")
    body.press("v")
    expect(page.locator("#response-b .tt-differs")).not_to_have_count(0)
    body.press("1")
    expect(page.locator("#rank-strength input").nth(1)).to_be_checked()
    body.press("r")
    page.keyboard.press("Space")
    expect(page.locator("#rank-reasons-a input").first).to_be_checked()
    page.locator("#rank-reasons-b label").last.click()
    body.press("w")
    expect(page.locator("#rank-better textarea")).to_be_focused()
    page.keyboard.type("By the salt of the rocks.")
    expect(page.locator("#rank-changes ins")).to_contain_text("rocks")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.locator("#rank-outcome")).to_contain_text("assistant@1")
    sent = screens.stub.votes[0]
    assert (sent["choice"], sent["strength"]) == ("a", "slightly")
    assert (sent["reasons"], sent["unsafe"]) == ({"a": ["accurate"]}, ["b"])
    assert sent["better"] == "By the salt of the rocks."
    body.press("n")
    expect(page.locator("#rank-asked")).to_contain_text("sky blue")
    expect(page.locator("#rank-reasons-b input:checked")).to_have_count(0)
    expect(page.locator("#rank-strength input").first).to_be_checked()
    body.press("u")
    expect(page.locator("#rank-asked")).to_contain_text("sea salty")
    expect(page.locator("#rank-outcome")).to_contain_text("taken back")
    assert screens.stub.votes == []
    body.press("t")
    expect(page.locator("#rank-outcome")).to_contain_text("assistant@1")
    body.press("n")
    expect(page.locator("#rank-asked")).to_contain_text("sky blue")
    body.press("k")
    expect(page.locator("#rank-skip [data-id]").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#rank-asked")).to_contain_text("What is fire?")
    assert [skip["reason"] for skip in screens.stub.skips] == ["too long"]
    page.locator("#rank-history > button, #rank-history .label-wrap").first.click()
    page.locator("#rank-cast [data-id]").first.click()
    expect(page.locator("#rank-asked")).to_contain_text("sea salty")
    assert screens.stub.votes == []


BRANCHES = {
    "a": [
        {"role": "assistant", "content": "Which town?"},
        {"role": "user", "content": "Ulm."},
        {"role": "assistant", "content": "Rain."},
    ],
    "b": [{"role": "assistant", "content": "It depends."}],
}


def test_several_are_put_in_an_order_by_keys_and_branches_shown_whole(page: Page, screens: Screens) -> None:
    asked = [{"role": "user", "content": "Colour?"}]
    screens.stub.add_comparison(asked, "red", "green", c="blue", d="yellow")
    weather = screens.stub.add_comparison(
        [{"role": "user", "content": "Weather?"}], "Rain.", "It depends.", branches=BRANCHES
    )
    page.goto(screens.url + "/rank")
    expect(page.locator("#response-d")).to_contain_text("yellow")
    expect(page.locator("#vote-a")).to_be_hidden()
    for key in ("c", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#rank-outcome")).to_contain_text("Put all responses in an order")
    for key in ("Backspace", "d", "a", "t", "c"):
        page.keyboard.press(key)
    expect(page.locator("#rank-order p")).to_have_text("D > A = C")
    page.keyboard.press("Enter")
    expect(page.locator("#rank-outcome")).to_contain_text("assistant@1")
    assert screens.stub.votes[0]["ranking"] == [["d"], ["a", "c"], ["b"]]
    page.keyboard.press("n")
    expect(page.locator("#response-a")).to_contain_text("Which town?")
    expect(page.locator("#response-a .tt-user")).to_contain_text("Ulm.")
    expect(page.locator("#response-d")).to_be_hidden()
    weather["state"] = "decided"
    page.keyboard.press("a")
    expect(page.locator("#rank-outcome")).to_contain_text("decided already")
    weather["state"] = "open"
    page.keyboard.press("a")
    expect(page.locator("#rank-outcome")).to_contain_text("assistant@1")
    assert screens.stub.votes[1]["choice"] == "a"
