"""Rank in a browser: from a vote's key to the next complete comparison on the page, the queue warm.

    python -m bench.rank [--quick] [--chromium PATH]

The whole platform runs in this process with comparisons waiting in its store, so that nothing is sampled; headless
Chromium presses A, waits for what the vote reveals, and presses N. The page notes when the keys were pressed and when the
texts changed, so that the driver's own time does not count. `store` is the time of the same two steps over HTTP alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from playwright.sync_api import Page, sync_playwright

from bench.versions import versions
from store.feedback import comparisons
from store.feedback.comparisons import Candidate
from store.rollout import deployments
from store.values import Message
from trimtab import server
from trimtab.app import build_app, build_platform
from trimtab.config.serving_sections import EngineSettings
from trimtab.config.settings import Settings
from trimtab.platform import Platform

BUDGET_MS = 300.0
READING_MS = 700
WARM_UP = 5

# Notes the moment (performance.now) at which a key goes down, the vote is revealed, and the next texts are shown.
WATCH = """
window.seen = {};
const note = (name) => { window.seen[name] ??= performance.now(); };
document.addEventListener('keydown', (event) => note(event.key), true);
const text = (id) => document.querySelector(id)?.textContent ?? '';
new MutationObserver(() => {
  if (text('#rank-outcome').includes('@')) note('revealed');
  const number = window.wanted;
  if (number && text('#response-a').includes(number) && text('#response-b').includes(number)) note('next');
}).observe(document.body, { childList: true, subtree: true, characterData: true });
"""


@contextmanager
def served(directory: Path, count: int) -> Iterator[str]:
    """Serve a platform with `count` comparisons in its queue, and give its URL."""
    listener = server.listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    engines = {"main": EngineSettings(base="smollm2-135m-instruct", url="http://127.0.0.1:9", api_key="none")}
    platform = build_platform(Settings(data=directory, engines=engines), url)
    fill(platform, count)
    running = uvicorn.Server(
        uvicorn.Config(build_app(platform), log_level="error", timeout_graceful_shutdown=1)
    )
    running.install_signal_handlers = lambda: None  # type: ignore[method-assign]
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.05)
    yield url
    running.should_exit = True
    thread.join(10)


def fill(platform: Platform, count: int) -> None:
    """Queue comparisons of two answers of 200 words, each with its number."""
    release = deployments.get(platform.db, "assistant").stable
    for n in range(count):
        answers = [f"[{n}] {side} " + "Some **words** about the sea.\n\n" * 40 for side in ("one", "other")]
        candidates = [Candidate(answer, release=release) for answer in answers]
        comparisons.create(
            platform.db, (Message("user", f"Question {n}?"),), candidates, "assistant", source="typed"
        )


def measure(page: Page, url: str, rounds: int) -> list[dict[str, float]]:
    """Vote on `rounds` comparisons; return the milliseconds to what the vote reveals, to the next one, and of both."""
    page.goto(url + "/rank")
    page.locator("#response-a").get_by_text("[0]").first.wait_for(timeout=60_000)
    page.evaluate(WATCH)
    found = []
    for n in range(rounds):
        page.evaluate("(wanted) => { window.seen = {}; window.wanted = wanted; }", f"[{n + 1}]")
        page.wait_for_timeout(READING_MS)  # meanwhile the screen sees to it that another one waits
        page.keyboard.press("a")
        page.wait_for_function("window.seen.revealed")
        page.keyboard.press("n")
        page.wait_for_function("window.seen.next")
        seen = page.evaluate("window.seen")
        vote, following = seen["revealed"] - seen["a"], seen["next"] - seen["n"]
        found.append({"vote": vote, "next": following, "both": vote + following})
    return found[WARM_UP:]


def over_http(url: str, rounds: int) -> list[float]:
    """Return the milliseconds of a vote and of fetching the next comparison over HTTP, without a browser."""
    took = []
    with httpx.Client(base_url=url) as client:
        for _ in range(rounds):
            id = client.get("/api/comparisons/next").json()["id"]
            began = time.perf_counter()
            client.post(f"/api/comparisons/{id}/vote", json={"choice": "a"}).raise_for_status()
            client.get("/api/comparisons/next").raise_for_status()
            took.append(1000 * (time.perf_counter() - began))
    return took[WARM_UP:]


def main() -> None:
    """Measure, print each step, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="25 votes in place of 100")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of the browser")
    args = parser.parse_args()
    rounds = WARM_UP + (20 if args.quick else 95)
    with tempfile.TemporaryDirectory() as scratch, served(Path(scratch), 2 * rounds + 10) as url:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
            found = measure(browser.new_page(viewport={"width": 1280, "height": 800}), url, rounds)
            browser.close()
        plain = over_http(url, rounds)
    medians = {}
    for step in ("vote", "next", "both"):
        ms = sorted(row[step] for row in found)
        medians[step] = statistics.median(ms)
        print(f"{step:5} median {medians[step]:6.0f} ms, p95 {ms[int(0.95 * len(ms))]:6.0f} ms, of {len(ms)}")
    print(f"http  median {statistics.median(plain):6.0f} ms for both, without a browser")
    result = {
        "name": "rank",
        "figure": round(medians["both"], 1),
        "unit": "ms from vote to next complete comparison (median)",
        "budget": BUDGET_MS,
        "ok": medians["both"] <= BUDGET_MS,
        "versions": versions("gradio", "duckdb", "playwright"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
