"""axe-core on every screen, light and dark, wide and narrow: no violation of any level."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.double.full import fill
from trimtab.web import login

pytestmark = pytest.mark.browser

WIDTHS = (1280, 375)
OPS = {
    "Overview": "#ops-deployments",
    "Training": "#ops-runs",
    "Releases": "#ops-releases",
    "Data": "#ops-snapshots",
    "Access": "#ops-users",
    "Audit": "#ops-audit",
}
OPTIONS = {"resultTypes": ["violations"]}
# What only a change of colours can break.
COLOURS = {**OPTIONS, "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}


def found(page: Page, options: dict[str, object]) -> list[str]:
    """Return what axe-core finds, one line per element."""
    violations = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:160]} {node['failureSummary']}"
        for one in violations
        for node in one["nodes"]
    ]


def everywhere(page: Page, screen: str) -> Iterator[str]:
    """Yield what is wrong with the screen that is open, in each width and colour scheme."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme, options in (("light", OPTIONS), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme)
            page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
            yield from (f"{screen} {width} {scheme}: {line}" for line in found(page, options))


def test_axe_finds_no_violation_on_any_screen(page: Page, screens: Screens) -> None:
    fill(screens.stub)
    screens.stub.add_comparison([{"role": "user", "content": "How do tides work?"}])
    page.emulate_media(reduced_motion="reduce")
    page.goto(screens.url + "/?c=conv-full")
    expect(page.locator("#chat-log")).to_contain_text("How do tides work?")
    wrong = list(everywhere(page, "Chat"))
    page.goto(screens.url + "/rank")
    expect(page.locator("#rank-table")).to_contain_text("Moon")
    wrong += everywhere(page, "Rank")
    page.goto(screens.url + "/ops")
    for tab, filled in OPS.items():
        page.set_viewport_size({"width": 1280, "height": 900})
        page.get_by_role("tab", name=tab).click()
        expect(page.locator(f"{filled} .tt-card").first).to_be_visible()
        wrong += everywhere(page, f"Ops, {tab}")
    page.goto("about:blank")
    page.set_content(login.page("Name or password is wrong").body.decode())
    wrong += everywhere(page, "Log-in")
    assert not wrong, "\n".join(wrong)
