"""In a real browser: the pages show every character that a model wrote, and ask no other host for anything."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, Request, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.test_browser import open_chat, say, until
from tests.feedback_ui.texts import CODE, LITERAL, letters

pytestmark = pytest.mark.browser

EVERYTHING = "\n\n".join(LITERAL[name] for name in LITERAL if "reasoning" not in name)
TEXTS = [EVERYTHING, LITERAL["reasoning"], LITERAL["open reasoning"], *(text for text, _ in CODE.values())]
SHOWN = [EVERYTHING, LITERAL["reasoning"], LITERAL["open reasoning"], *(text for _, text in CODE.values())]

# Elements and styles that load something, put into the page as they stand: no renderer is between them and the network.
INTRUDERS = """(url) => {
    document.body.insertAdjacentHTML("beforeend",
        `<img src="${url}/i.png"><link rel="stylesheet" href="${url}/s.css"><iframe src="${url}/f"></iframe>
        <style>@font-face { font-family: x; src: url(${url}/x.woff) } .x { font-family: x; background: url(${url}/b) }
        @import url(${url}/t.css);</style><p class="x">text</p><video src="${url}/v.mp4"></video>
        <object data="${url}/o"></object><embed src="${url}/e">
        <form action="${url}/form" id="intruder" target="_self"><input name="a"></form>`);
    const script = document.createElement("script");
    script.src = `${url}/x.js`;
    document.body.append(script);
    fetch(`${url}/fetch`).catch(() => 0);
    navigator.sendBeacon(`${url}/beacon`, "x");
    new EventSource(`${url}/events`);
    document.getElementById("intruder").submit();
}"""


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Another host: its address, and the first line of each request that reaches it."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(2)
                    asked.append(connection.recv(200).decode(errors="replace").split("\r\n")[0])

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)


def foreign(page: Page, screens: Screens) -> list[str]:
    """The requests that leave the host of the page, from now on."""
    seen: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((screens.url, "data:", "blob:")):
            seen.append(request.url)

    page.on("request", note)
    return seen


def written(shown: Locator) -> str:
    """What was written: a formula as its source, which is typeset on the page."""
    return str(
        shown.evaluate(
            """(node) => {
                const copy = node.cloneNode(true);
                for (const one of copy.querySelectorAll("[data-tex]")) one.textContent = one.dataset.tex;
                return copy.textContent;
            }"""
        )
    )


def test_chat_shows_every_character(page: Page, screens: Screens) -> None:
    asked = foreign(page, screens)
    open_chat(page, screens)
    for count, (text, expected) in enumerate(zip(TEXTS, SHOWN, strict=True), 1):
        screens.stub.reply = text
        say(page, f"Say {text}")
        expect(page.locator(".tt-by")).to_have_count(count)
        answer = written(page.locator("#chat-log .tt-text").last)
        assert letters(answer) == letters(expected)
        question = written(page.locator("#chat-log .tt-text").nth(2 * count - 2))
        assert letters(LITERAL["comparison"]) in letters(question) or count > 1
    page.reload()
    expect(page.locator("#chat-log .tt-text").last).to_be_visible()
    assert letters(written(page.locator("#chat-log .tt-text").last)) == letters(SHOWN[-1])
    assert asked == []


RICH = """The area is \\(\\pi r^2\\), and

$$\\int_0^1 x^2\\,dx = \\frac{1}{3}$$

| metal | melts at |
|---|--:|
| tin | 232 |

مرحبا بالعالم 123

```python
def area(r):
    return 3.14 * r ** 2  # <b>
```

<script>window.intruded = 1</script><svg onload="window.intruded = 1"></svg><img src=x onerror="window.intruded = 1">
\\(\\href{javascript:window.intruded=1}{x}\\) costs $5 and $6."""


def test_formulas_tables_code_and_other_scripts_are_laid_out_and_nothing_runs(
    page: Page, screens: Screens
) -> None:
    asked = foreign(page, screens)
    screens.stub.reply = RICH
    open_chat(page, screens)
    say(page, "Explain")
    expect(page.locator(".tt-by")).to_be_visible()
    answer = page.locator("#chat-log .tt-text").last
    expect(answer.locator(".tt-math .katex")).to_have_count(2)
    expect(answer.locator(".tt-math .katex-display")).to_have_count(1)
    expect(answer.locator(".tt-math a")).to_have_count(0)
    assert "KaTeX_Main" in answer.locator(".katex").first.evaluate(
        "node => getComputedStyle(node).fontFamily"
    )
    expect(answer.locator("td")).to_have_text(["tin", "232"])
    directions = [
        answer.locator("p", has_text=text).first.evaluate("node => getComputedStyle(node).direction")
        for text in ("area", "مرحبا")
    ]
    assert directions == ["ltr", "rtl"]
    expect(answer.locator(".tt-ck").first).to_have_text("def")
    answer.get_by_role("button", name="Copy code").click()
    expect(answer.get_by_role("button", name="Copied")).to_be_visible()
    copied = "def area(r):\n    return 3.14 * r ** 2  # <b>"
    assert page.evaluate("navigator.clipboard.readText()").strip() == copied
    assert r"\(\href{javascript:window.intruded=1}{x}\) costs $5 and $6." in (answer.text_content() or "")
    assert page.evaluate("window.intruded") is None
    assert asked == []


def test_a_message_is_edited_and_an_answer_copied_as_it_was_written(page: Page, screens: Screens) -> None:
    screens.stub.reply = LITERAL["generics"]
    open_chat(page, screens)
    message = 'Write "#include <algorithm>"\n\t& then &amp;'
    page.locator("#chat-input textarea").fill(message)
    page.locator("#chat-input textarea").press("Enter")
    expect(page.locator(".tt-by")).to_be_visible()
    page.get_by_label("Copy message").last.click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == LITERAL["generics"]
    page.get_by_label("Edit").first.click()
    expect(page.locator("#chat-log textarea")).to_have_value(message)
    page.locator("#chat-log textarea").press("End")
    page.locator("#chat-log textarea").type("!")
    page.get_by_label("Submit").click()
    until(
        lambda: screens.stub.requests[-1][2]["messages"][-1]["content"].replace("!", "") == message,
        f"another text was sent: {screens.stub.requests[-1][2]}",
    )


def test_rank_shows_every_character_and_plain_text_on_demand(page: Page, screens: Screens) -> None:
    asked = foreign(page, screens)
    screens.stub.add_comparison([{"role": "user", "content": LITERAL["page"]}])
    made = next(reversed(screens.stub.comparisons.values()))
    made["a"], made["b"] = EVERYTHING, "\n\n".join(text for text, _ in CODE.values())
    page.goto(screens.url + "/rank")
    expect(page.locator("#response-a .tt-markdown")).to_be_visible()
    assert letters(written(page.locator("#response-a .tt-text"))) == letters(EVERYTHING)
    assert letters(LITERAL["page"]) in letters(written(page.locator("#rank-asked")))
    page.locator("#rank-view input").nth(1).check()
    for slot in "ab":
        expect(page.locator(f"#response-{slot} .tt-plain")).to_be_visible()
        assert written(page.locator(f"#response-{slot} .tt-text")) == made[slot]
    page.locator("body").press("a")
    expect(page.locator("#rank-outcome")).to_contain_text("assistant@1")
    expect(page.locator("#response-a .tt-plain")).to_be_visible()
    page.locator("#rank-view input").nth(0).check()
    expect(page.locator("#response-b .tt-code")).not_to_have_count(0)
    assert asked == []


@pytest.mark.parametrize("path", ["/", "/rank", "/ops"])
def test_no_page_asks_another_host_whatever_is_in_it(
    page: Page, screens: Screens, elsewhere: tuple[str, list[str]], path: str
) -> None:
    url, asked = elsewhere
    page.goto(screens.url + path)
    page.locator("#tt-bar a").first.wait_for()
    page.evaluate(INTRUDERS, url)
    page.wait_for_timeout(1500)
    assert asked == []
    assert page.url.startswith(screens.url)


def test_a_thumb_on_an_answer_that_still_streams_is_kept(page: Page, screens: Screens) -> None:
    screens.stub.delta_s = 0.5
    open_chat(page, screens)
    say(page, "Explain tides")
    expect(page.locator("#chat-log .tt-text").last).to_contain_text("Tides are")
    page.get_by_label("Like", exact=True).last.click()
    expect(page.locator(".tt-by")).to_have_text(re.compile("assistant@1"))
    until(lambda: list(screens.stub.likes.values()) == [True], "the thumb did not reach the platform")
    expect(page.locator(".toast-body")).to_have_count(0)
    expect(page.get_by_label("Liked", exact=True)).to_be_visible()
    page.reload()
    expect(page.locator("#chat-log")).to_contain_text("of the Moon")


def test_a_thumb_on_a_stopped_answer_is_kept(page: Page, screens: Screens) -> None:
    screens.stub.delta_s = 0.5
    open_chat(page, screens)
    say(page, "Explain tides")
    expect(page.locator("#chat-log .tt-text").last).to_contain_text("Tides are")
    page.get_by_label("Dislike", exact=True).last.click()
    page.locator("#chat-stop").click()
    until(lambda: list(screens.stub.likes.values()) == [False], "the thumb did not reach the platform")


def test_an_import_that_fails_leaves_the_form_usable(page: Page, screens: Screens) -> None:
    page.goto(screens.url + "/ops")
    page.get_by_role("tab", name="Data").click()
    rows = b'{"prompt": "half \\ud83d", "rejected": "<b>"}\n{"prompt": "p", "chosen": "c", "rejected": "r"}\n'
    chosen = {"name": "half.jsonl", "mimeType": "application/jsonl", "buffer": rows}
    page.locator("#import-file input[type=file]").set_input_files(chosen)
    expect(page.locator("#import-file")).to_contain_text("half")
    page.locator("#import-start").click()
    expect(page.locator("#import-result")).to_contain_text("1 accepted, 0 known already, 1 refused")
    expect(page.locator("#import-start")).to_be_enabled()
    with page.expect_download() as download:
        page.locator("#import-refused").click()
    assert r"half \ud83d" in download.value.path().read_text()
    screens.stub.import_faulty = True
    page.locator("#import-file input[type=file]").set_input_files(chosen)
    expect(page.locator("#import-file")).to_contain_text("half")
    page.locator("#import-start").click()
    expect(page.locator(".toast-body")).to_contain_text("fault of their own")
    expect(page.locator("#import-start")).to_be_enabled()
