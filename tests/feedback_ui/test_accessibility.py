"""Every screen full of hostile texts: axe-core finds no violation of any level, and nothing of the texts runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.double.full import fill
from trimtab.web import login

pytestmark = pytest.mark.browser

OPS = {
    "Overview": "#ops-deployments",
    "Training": "#ops-runs",
    "Releases": "#ops-releases",
    "Data": "#ops-snapshots",
    "Curate": "#curate-rows",
    "Access": "#ops-users",
    "Audit": "#ops-audit",
}
OPTIONS = {"resultTypes": ["violations"]}
# What only a change of colours can break.
COLOURS = {**OPTIONS, "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
LOOKS = ((1280, "light", OPTIONS), (1280, "dark", COLOURS), (375, "dark", OPTIONS), (375, "light", COLOURS))
NARROW_PARTS = ("Chat", "Rank", "Ops, Overview")
"""Screens that show something in a narrow window alone; there its colours are looked at in both schemes."""

OPEN = "document.querySelectorAll('details').forEach(fold => { fold.open = true; })"
RUNS = "window.intruded = true"
HOSTILE = (
    f'How do tides work? <img src=x onerror="{RUNS}" data-intruder><svg onload="{RUNS}" data-intruder><a href='
    f'"javascript:{RUNS}" data-intruder>x</a></svg><script>{RUNS}</script>\'"><iframe srcdoc="<script>parent.intruded = '
    f'true</script>" data-intruder></iframe><style data-intruder>*{{color:red}}</style> [x](javascript:{RUNS})'
)
"""What a person or a model may have written in any field."""


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
    for width, scheme, options in LOOKS if screen in NARROW_PARTS else LOOKS[:3]:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "dark")
        yield from (f"{screen} {width} {scheme}: {line}" for line in found(page, options))
    yield from intruders(page, screen)


def intruders(page: Page, screen: str) -> Iterator[str]:
    """Yield what of the hostile texts became part of the page, in its folds too."""
    page.evaluate(OPEN)
    if page.evaluate("window.intruded"):
        yield f"{screen}: a script of a text ran"
    live = "document.querySelectorAll('[data-intruder], a[href^=javascript]').length"
    if count := page.evaluate(live):
        yield f"{screen}: {count} elements of a text are live"
    if HOSTILE[19:40] not in page.content().replace("&lt;", "<"):
        yield f"{screen}: the text is not shown"


def test_axe_finds_no_violation_and_no_text_of_others_runs_on_any_screen(
    page: Page, screens: Screens
) -> None:
    fill(screens.stub, HOSTILE)
    screens.stub.add_comparison([{"role": "user", "content": HOSTILE}], HOSTILE, HOSTILE)
    page.emulate_media(reduced_motion="reduce")
    page.goto(screens.url + "/?c=conv-full")
    expect(page.locator("#chat-log")).to_contain_text("How do tides work?")
    wrong = list(everywhere(page, "Chat"))
    page.goto(screens.url + "/rank")
    expect(page.locator("#rank-table")).to_contain_text("How do tides work?")
    wrong += everywhere(page, "Rank")
    page.goto(screens.url + "/ops")
    for tab, filled in OPS.items():
        page.set_viewport_size({"width": 1280, "height": 900})
        page.get_by_role("tab", name=tab).click()
        expect(page.locator(f"{filled} .tt-card").first).to_be_visible()
        if tab == "Releases":
            page.locator("#release-diff").click()
            expect(page.locator("#ops-diff ins")).to_be_visible()
        if tab == "Curate":
            page.evaluate(OPEN)
            page.locator("#curate-rows button").first.click()
            expect(page.locator("#curate-lineage .tt-card")).to_be_visible()
            page.locator("#curate-draw").click()
            expect(page.locator("#curate-report .tt-bars").first).to_be_visible()
        wrong += everywhere(page, f"Ops, {tab}")
    page.goto("about:blank")
    page.set_content(login.page(HOSTILE).body.decode())
    wrong += everywhere(page, "Log-in")
    assert not wrong, "\n".join(wrong)
