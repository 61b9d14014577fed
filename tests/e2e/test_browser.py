"""The screens that a person sees, on the real stack: chat, rank, retrain, roll back, each checked in the API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.platform import PlatformProcess, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1200)]

ANSWER_MS = 180_000
RUN_MS = 600_000
PROMPTS = 4
SMALL = {
    "max_length": 64,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "heldout_limit": 2,
}


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    yield page
    context.close()


def assistant(platform: PlatformProcess) -> dict[str, Any]:
    found: dict[str, Any] = platform.get("/api/deployments/assistant")
    return found


def open_rank(page: Page, platform: PlatformProcess) -> None:
    """The Rank screen, its responses kept short for a small machine."""
    page.goto(platform.url + "/rank")
    page.get_by_role("button", name="Sampling").click()
    page.locator("#rank-max-tokens").get_by_role("textbox").fill("16")


def pairs(platform: PlatformProcess) -> int:
    return int(platform.get("/api/status")["pairs"]["total"])


def test_chat_streams_rates_and_returns_after_a_reload(page: Page, platform: PlatformProcess) -> None:
    page.goto(platform.url)
    expect(page.locator("#chat-model input")).to_have_value("assistant")
    page.get_by_role("button", name="Sampling").click()
    page.locator("#chat-max-tokens").get_by_role("textbox").fill("24")
    page.locator("#chat-input textarea").fill("Name three colours.")
    page.locator("#chat-input textarea").press("Enter")
    stable = assistant(platform)["stable"]
    expect(page.locator(".tt-by")).to_have_text(re.compile(rf"{stable} · stable"), timeout=ANSWER_MS)
    page.wait_for_url(re.compile("c="))
    ident = page.url.split("c=")[1].split("&")[0]
    expect(page.locator(f".tt-conversation[data-id='{ident}']")).to_be_visible()

    page.get_by_label("Like", exact=True).click()

    def liked() -> bool:
        messages = platform.get(f"/api/conversations/{ident}")["messages"]
        return [m["liked"] for m in messages if m["role"] == "assistant"] == [True]

    wait_for(liked, 20)
    answer = platform.get(f"/api/conversations/{ident}")["messages"][-1]
    assert answer["release"] == stable
    page.reload()
    expect(page.locator("#chat-log")).to_contain_text(
        max(re.findall(r"[A-Za-z]+", answer["content"]), key=len)
    )
    expect(page.locator(".tt-by")).to_contain_text(stable)


def test_rank_by_keyboard_stores_pairs(page: Page, platform: PlatformProcess) -> None:
    before = pairs(platform)
    open_rank(page, platform)
    for number, key in zip(range(1, PROMPTS + 1), "abab", strict=True):
        page.locator("#rank-prompt textarea").fill(f"Give {number} short tips for a calm morning.")
        page.locator("#rank-compare").click()
        expect(page.locator("#rank-asked")).to_contain_text(f"Give {number} short", timeout=ANSWER_MS)
        expect(page.locator("#vote-a")).to_be_visible()
        assert "assistant@" not in page.locator(".tt-rank-page").inner_text()
        page.locator(".tt-response h2").first.click()
        page.keyboard.press(key)
        expect(page.locator("#rank-outcome")).to_contain_text("assistant@")
        expect(page.locator("#rank-tally")).to_contain_text(f"{number} vote")
    assert pairs(platform) == before + PROMPTS


def test_a_better_response_becomes_a_demonstration(page: Page, platform: PlatformProcess) -> None:
    before = platform.get("/api/status")["demonstrations"]["total"]
    open_rank(page, platform)
    page.locator("#rank-draw").click()
    expect(page.locator("#rank-prompt textarea")).not_to_have_value("")
    page.locator("#rank-compare").click()
    # Its own, not one that waited in the queue: the prompt leaves its box with the responses.
    expect(page.locator("#rank-prompt textarea")).to_have_value("", timeout=ANSWER_MS)
    expect(page.locator("#vote-a")).to_be_visible()
    page.get_by_role("button", name="Say why, or write a better response").click()
    page.locator("#rank-better textarea").fill("A short answer that a person wrote.")
    page.locator("#vote-both-bad").click()
    expect(page.locator("#rank-outcome")).to_contain_text("demonstration")
    assert platform.get("/api/status")["demonstrations"]["total"] == before + 1


def test_retrain_promotes_and_rolls_back(page: Page, platform: PlatformProcess) -> None:
    first, engine = assistant(platform)["stable"], platform.get("/api/status")["engines"][0]["pid"]
    page.goto(platform.url + "/ops")
    expect(page.locator("#ops-engines")).to_contain_text("ready")
    page.get_by_role("tab", name="Training").click()
    page.locator("#train-steps").get_by_role("textbox").fill("2")
    page.locator("#train-rate").get_by_role("textbox").fill("1e-3")
    page.get_by_role("button", name="More parameters").click()
    page.locator("#train-extra textarea").fill(
        "\n".join(f"{name} = {value}" for name, value in SMALL.items())
    )
    page.locator("#train-gate input").click()
    page.get_by_role("option", name="Report only").click()
    page.locator("#train-rollout input").click()
    page.get_by_role("option", name="Make it stable").click()
    page.locator("#train-start").click()
    expect(page.locator("#run-cancel")).to_be_visible()
    expect(page.locator("#run-progress")).to_contain_text("Step 2 of 2", timeout=RUN_MS)
    expect(page.locator("#run-progress [aria-current=step]")).to_contain_text("stable", timeout=RUN_MS)
    expect(page.locator("#plot-loss canvas, #plot-loss svg").first).to_be_visible()

    run = platform.get("/api/runs")[0]
    second = assistant(platform)["stable"]
    assert run["state"] == "stable"
    assert run["release"] == second != first
    page.get_by_role("tab", name="Releases").click()
    expect(page.locator("#ops-releases")).to_contain_text(second)

    page.get_by_role("tab", name="Overview").click()
    expect(page.locator("#ops-deployments")).to_contain_text(f"{second} · stable · 100%")
    page.locator("#rollout-rollback").click()
    expect(page.locator("#ops-deployments")).to_contain_text(f"{first} · stable · 100%")
    assert assistant(platform)["stable"] == first
    assert platform.get("/api/status")["engines"][0]["pid"] == engine
    page.get_by_role("tab", name="Audit").click()
    expect(page.locator("#ops-audit")).to_contain_text("rollback")
