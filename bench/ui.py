"""The screens: first view, tab switches, weight, and 50 raters at once.

    python -m bench.ui [--quick] [--raters 50] [--seconds 20] [--only screens|raters]

Starts `trimtab up` over a stub engine (20 tokens per second and stream). In headless Chromium: seconds from an empty browser
until one can write in Chat, sees Rank's prompt field and Ops' figures (a new browser each time), milliseconds from a click
on a tab of Ops until its panel is painted, and the bytes that Chat loads. Then raters, each a person of their own: each
samples a comparison, reads it for five seconds, votes, and goes on, and streams chats of 100 tokens meanwhile.
Browser, load (a process for votes, one for streams) and stub share the machine with the platform. Ends with one line of JSON
whose figure is the worst result as a multiple of its budget.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from bench.serving.servers import ROOT, free_port, running
from bench.versions import versions

SETTLED_MS = 3000
"""Until what a page loads after its first view is there; its event stream never ends."""
READING_S = 5.0
VIEW_BUDGET_S, TAB_BUDGET_MS, VOTE_BUDGET_MS = 1.0, 150.0, 200.0
SCREENS = {"/": "#chat-input textarea", "/rank": "#rank-prompt textarea", "/ops": "#ops-tiles .tt-tile"}
OWN = ("style.css", "trimtab.js", "favicon.svg")
# From the click until the panel is there and a frame with it was painted.
SWITCH = """async (name) => {
  const tab = [...document.querySelectorAll("[role=tab]")].find((one) => one.textContent.trim() === name);
  const began = performance.now();
  tab.click();
  while (tab.getAttribute("aria-selected") !== "true") await new Promise((go) => setTimeout(go, 1));
  await new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)));
  return performance.now() - began;
}"""
LOADED = """() => performance.getEntriesByType("navigation").concat(performance.getEntriesByType("resource"))
  .map((one) => [one.name, one.transferSize, one.decodedBodySize])"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", choices=("screens", "raters"))
    args = parser.parse_args()
    rounds, seconds = (3, min(args.seconds, 12.0)) if args.quick else (7, args.seconds)
    with tempfile.TemporaryDirectory() as scratch:
        engine, port = free_port(), free_port()
        url = f"http://127.0.0.1:{port}"
        stub = [sys.executable, "-m", "bench.serving.stub_engine", "--port", str(engine), "--rate", "20"]
        with (
            running(stub, f"http://127.0.0.1:{engine}/health"),
            running(_platform(Path(scratch), engine, port), f"{url}/readyz"),
        ):
            httpx.get(url, timeout=60).raise_for_status()  # the screens are open
            seen = _screens(url, rounds) if args.only != "raters" else None
            voted = asyncio.run(_raters(url, args.raters, seconds)) if args.only != "screens" else None
    shares = [view / VIEW_BUDGET_S for view in seen["first_view_s"].values()] if seen else []
    shares += [seen["tab_ms"]["p95"] / TAB_BUDGET_MS] if seen else []
    shares += [voted["vote_ms"]["p95"] / VOTE_BUDGET_MS] if voted else []
    facts = {"figure": round(max(shares), 3), **(seen or {}), "raters": voted}
    print(json.dumps(facts | {"versions": versions("gradio", "playwright", "duckdb", "uvicorn")}))


def _platform(scratch: Path, engine: int, port: int) -> list[str]:
    settings = scratch / "trimtab.toml"
    settings.write_text(
        f'[engines.main]\nbase = "stub"\nurl = "http://127.0.0.1:{engine}"\napi_key = "none"\n[deployments.assistant]\n'
        'base = "stub"\n'
    )
    data = str(scratch / "data")
    return [
        sys.executable, "-m", "trimtab", "up", "--config", str(settings), "--data", data, "--port", str(port),
    ]  # fmt: skip


def _screens(url: str, rounds: int) -> dict[str, Any]:
    """Return seconds to the first view of each screen, milliseconds of a tab switch, and what Chat weighs."""
    views: dict[str, list[float]] = {path: [] for path in SCREENS}
    with sync_playwright() as playwright:
        for _ in range(rounds):
            for path in SCREENS:
                with _browser(playwright) as browser:
                    views[path].append(_first_view(browser.new_page(), url, path))
        with _browser(playwright) as browser:
            page = browser.new_page()
            _first_view(page, url, "/")
            page.wait_for_timeout(SETTLED_MS)
            weight = _weight(page, url)
            _first_view(page, url, "/ops")
            tabs = _tabs(page, rounds)
    shown = {path: round(statistics.median(found), 3) for path, found in views.items()}
    print(f"first view, median of {rounds}: {shown} s (budget {VIEW_BUDGET_S})", flush=True)
    print(f"tab switches of Ops: {tabs} ms (budget {TAB_BUDGET_MS:.0f})", flush=True)
    print(f"weight of Chat: {weight}", flush=True)
    return {"first_view_s": shown, "tab_ms": tabs, "weight": weight}


def _browser(playwright: Playwright) -> Browser:
    path = shutil.which("chromium")
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


def _first_view(page: Page, url: str, path: str) -> float:
    """Return the seconds from the request until the screen's first use is possible."""
    began = time.perf_counter()
    page.goto(url + path, wait_until="commit")
    page.wait_for_selector(SCREENS[path], state="visible")
    return time.perf_counter() - began


def _tabs(page: Page, rounds: int) -> dict[str, float]:
    names = [tab.inner_text() for tab in page.get_by_role("tab").all()]
    taken = [page.evaluate(SWITCH, name) for _ in range(rounds) for name in [*names[1:], names[0]]]
    return _quantiles(taken) | {"switches": len(taken)}


def _weight(page: Page, url: str) -> dict[str, Any]:
    loaded = page.evaluate(LOADED)
    foreign = [name for name, _, _ in loaded if not name.startswith((url, "data:", "blob:"))]
    own = {name: (ROOT / "feedback_ui" / "assets" / name).stat().st_size for name in OWN}
    return {
        "requests": len(loaded),
        "transferred_bytes": sum(size for _, size, _ in loaded),
        "decoded_bytes": sum(size for _, _, size in loaded),
        "own_bytes": own,
        "of_other_hosts": foreign,
    }


async def _raters(url: str, count: int, seconds: float) -> dict[str, Any]:
    """Return what the raters met: latencies of votes and of first tokens, and errors."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        streams = loop.run_in_executor(apart, _streams, url, count, seconds)
        votes, errors = await _together(_vote, url, count, seconds)
        firsts, failed = await streams
    errors += failed
    found = {
        "raters": count, "seconds": seconds, "votes": len(votes), "streams": len(firsts), "errors": len(errors),
        "vote_ms": _quantiles(votes), "first_token_ms": _quantiles(firsts), "first_errors": errors[:3],
    }  # fmt: skip
    print(
        f"{count} raters, {seconds:.0f} s: {len(votes)} votes, {len(firsts)} streams, {len(errors)} errors; vote "
        f"{found['vote_ms']} ms (p95 budget {VOTE_BUDGET_MS:.0f}), first token {found['first_token_ms']} ms",
        flush=True,
    )
    return found


def _streams(url: str, count: int, seconds: float) -> tuple[list[float], list[str]]:
    return asyncio.run(_together(_stream, url, count, seconds))


async def _together(
    work: Callable[..., Awaitable[None]], url: str, count: int, seconds: float
) -> tuple[list[float], list[str]]:
    """Let every rater do the same for a time; return what was measured, and errors."""
    taken: list[float] = []
    errors: list[str] = []
    # connections are given up before the server closes them
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        until = time.monotonic() + seconds

        async def begin(place: int) -> None:
            await asyncio.sleep(READING_S * place / count)  # people do not begin at the same moment
            await work(client, f"rater {place}", taken, errors, until)

        await asyncio.gather(*map(begin, range(count)))
    return taken, errors


def _quantiles(taken: list[float]) -> dict[str, float]:
    ranked = sorted(taken) or [float("inf")]
    at = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {
        name: round(ranked[min(len(ranked) - 1, int(share * len(ranked)))], 1) for name, share in at.items()
    }


async def _vote(
    client: httpx.AsyncClient, name: str, taken: list[float], errors: list[str], until: float
) -> None:
    """Sample a comparison, read it, vote, and go on; once at least."""
    headers = {"X-Trimtab-User": name}
    number = 0
    while number == 0 or time.monotonic() < until:
        number += 1
        prompt = [{"role": "user", "content": f"Question {number} of {name}?"}]
        try:
            made = await client.post("/api/comparisons", json={"messages": prompt}, headers=headers)
            made.raise_for_status()
            await asyncio.sleep(READING_S)
            began = time.perf_counter()
            done = await client.post(
                f"/api/comparisons/{made.json()['id']}/vote", json={"choice": "a"}, headers=headers
            )
            taken.append((time.perf_counter() - began) * 1000)
            done.raise_for_status()
        except httpx.HTTPError as error:
            errors.append(f"vote: {error!r}")


async def _stream(
    client: httpx.AsyncClient, name: str, taken: list[float], errors: list[str], until: float
) -> None:
    """Stream chats of 100 tokens, one after another."""
    body = {
        "model": "assistant",
        "messages": [{"role": "user", "content": "Tell me."}],
        "stream": True,
        "max_tokens": 100,
    }
    while time.monotonic() < until:
        began = time.perf_counter()
        first, last = None, ""
        try:
            async with client.stream(
                "POST", "/v1/chat/completions", json=body, headers={"X-Trimtab-User": name}
            ) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        first, last = first or time.perf_counter(), line
        except httpx.HTTPError as error:
            errors.append(f"stream: {error!r}")
            continue
        if first is None or last != "data: [DONE]":
            errors.append(f"stream: {answer.status_code}, it ended with {last[:100]!r}")
        else:
            taken.append((first - began) * 1000)


if __name__ == "__main__":
    main()
