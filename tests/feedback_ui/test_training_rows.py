"""Ops, Data: rows with everything they carry, unfolded one by one."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from feedback_ui.ops.data import training_rows
from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.test_rank_tools import ASKED, CALLED

SYSTEM = {"role": "system", "content": "You look at the sky."}
PAIR: dict[str, Any] = {
    "id": "pair-1",
    "prompt": [SYSTEM | {"tools": ASKED["tools"]}, {"role": "user", "content": "Ulm?"}],
    "chosen": "",
    "rejected": "Sun & <b>fun</b>.",
    "chosen_messages": [CALLED],
    "rejected_messages": None,
    "weight": 0.5,
    "source": "vote",
}


def test_a_row_says_in_its_line_what_it_carries() -> None:
    html = training_rows.pair(PAIR)
    line = html[: html.index("</summary>")]
    assert "<b>Ulm?</b>" in line
    assert "weather({&quot;town&quot;:&quot;&lt;b&gt;&quot;})" in line
    assert "Sun &amp; &lt;b&gt;fun" in line
    for fact in ("System prompt", "1 tool call", "thinking", "weight 0.50", "vote"):
        assert f">{fact}</span>" in line


def test_a_plain_row_has_no_word_of_calls_or_thinking() -> None:
    html = training_rows.demonstration(
        {"id": "d", "prompt": [{"role": "user", "content": "?"}], "completion": "!"}
    )
    assert "tool call" not in html
    assert "thinking" not in html.replace("tt-thinking", "")


def test_a_row_without_a_prompt_or_text_is_shown() -> None:
    assert "–" in training_rows.pair({"id": "p", "prompt": [], "chosen": "", "rejected": ""})


@pytest.mark.browser
def test_a_pair_unfolds_into_prompt_calls_and_thinking(page: Page, screens: Screens) -> None:
    screens.stub.pairs = [PAIR, PAIR | {"id": "pair-2"}]
    page.goto(screens.url + "/ops")
    page.get_by_role("tab", name="Data").click()
    rows = page.locator("#ops-pairs .tt-row")
    expect(rows).to_have_count(2)
    expect(rows.first.locator(".tt-call").last).to_be_hidden()
    rows.first.locator("summary").first.click()
    expect(rows.first.locator(".tt-row-columns .tt-call b")).to_have_text("weather")
    rows.first.locator(".tt-thinking summary").click()
    expect(rows.first.locator(".tt-thinking .tt-text")).to_have_text("Look.")
    expect(rows.last.locator(".tt-row-body")).to_be_hidden()
