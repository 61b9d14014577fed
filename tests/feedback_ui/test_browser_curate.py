"""Ops, Curate in a real browser: rows are searched, chosen, excluded with a reason, and taken back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.double.rows import now

pytestmark = pytest.mark.browser


def test_rows_are_searched_read_excluded_in_bulk_and_taken_back(page: Page, screens: Screens) -> None:
    screens.stub.pairs = [
        {
            "id": f"pair-{name}", "prompt": [{"role": "user", "content": f"About {name}?"}], "chosen": f"The {name}.",
            "rejected": "No.", "source": "vote", "rater": "ada", "created_at": now(60),
        }
        for name in ("moon", "sea", "wind")
    ]  # fmt: skip
    page.goto(screens.url + "/ops")
    page.get_by_role("tab", name="Curate").click()
    rows = page.locator("#curate-rows")
    expect(rows).to_contain_text("3 of 3 rows")
    page.get_by_label("Choose row pair-moon").check()
    page.locator("#curate-exclude").click()
    expect(page.locator(".toast-body")).to_contain_text("Write a reason first")
    page.locator("#curate-reason").get_by_role("textbox").fill("It is wrong")
    page.locator("#curate-exclude").click()
    expect(rows).to_contain_text("excluded: It is wrong")
    assert list(screens.stub.reviews) == ["pair-moon"]
    page.locator("#curate-text").get_by_role("textbox").fill("sea")
    page.locator("#curate-text").get_by_role("textbox").press("Enter")
    expect(rows).to_contain_text("1 of 1 rows")
    rows.locator("summary").click()
    rows.get_by_role("button", name="Lineage").click()
    expect(page.locator("#curate-lineage")).to_contain_text("assistant@2")
    page.get_by_role("button", name="More filters").click()
    page.locator("#curate-view-name").get_by_role("textbox").fill("the sea")
    page.locator("#curate-save").click()
    expect(page.locator(".toast-body").last).to_contain_text("The view the sea is saved")
    assert screens.stub.views["the sea"]["filters"] == {"text": "sea"}
    page.locator("#curate-text").get_by_role("textbox").fill("")
    page.locator("#curate-reason").get_by_role("textbox").fill("All is well")
    page.get_by_label("All rows that the search finds").check()
    page.locator("#curate-restore").click()
    expect(rows).to_contain_text("3 of 3 rows")
    expect(rows).not_to_contain_text("excluded")
    assert screens.stub.reviews == {}
    page.locator("#curate-draw").click()
    expect(page.locator("#curate-report")).to_contain_text("The longer answer was chosen in 80%")
