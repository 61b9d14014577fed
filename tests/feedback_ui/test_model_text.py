"""Every character that a model wrote is shown, and nothing of it becomes markup, in whatever it is written."""

from __future__ import annotations

import re
import time
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_ui import dialogue
from feedback_ui.conversation import Talk, Turn
from feedback_ui.model_text import MAX_CHARACTERS, plain, rendered, source, text_content
from tests.feedback_ui.texts import CODE, LITERAL, letters

MARKS = re.compile(r"[\s*~`#>|_:\-\[\]\\]+")
TAGS = {
    "a", "blockquote", "br", "button", "code", "details", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol",
    "p", "pre", "s", "small", "span", "strong", "summary", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"class", "data-source", "dir", "href", "open", "rel", "style", "target", "title", "type"}
PIECES = [piece for text in LITERAL.values() for piece in text.split(" ")]


class Page(HTMLParser):
    """What a browser makes of HTML: its text, its tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes = "", set[str](), set[str]()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        for name, value in attrs:
            assert name != "href" or (value or "").startswith(("http://", "https://", "mailto:")), value
            assert name != "style" or (value or "").startswith("text-align:"), value

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(html: str) -> Page:
    """Check that HTML is harmless, one line and one block, and return what a browser makes of it."""
    page = Page(html)
    assert page.tags <= TAGS
    assert page.attributes <= ATTRIBUTES
    assert "\n" not in html
    assert page.text == text_content(html)
    return page


@pytest.mark.parametrize("name", LITERAL)
def test_every_character_that_is_no_markup_is_shown(name: str) -> None:
    text = LITERAL[name]
    html = rendered(text)
    assert letters(shown(html).text) == letters(text)
    assert "tt-plain" not in html, "it is not shown as Markdown"
    assert letters(shown(plain(text)).text) == letters(text)


@pytest.mark.parametrize("name", CODE)
def test_code_is_shown_whole_with_its_language(name: str) -> None:
    text, expected = CODE[name]
    assert letters(shown(rendered(text)).text) == letters(expected)


def test_plain_text_keeps_line_ends_spaces_and_tabs() -> None:
    assert shown(plain("# a\r\n\n\tb  <c>")).text == "# a\n\n\tb  <c>"


def test_markdown_is_rendered() -> None:
    words = "# Head\n\nSome **bold**, *italic*, ~~gone~~ and `code`."
    text = f"{words}\n\n- a\n  - b\n\n> said\n\n| x | y |\n|---|--:|\n| 1 | 2 |\n\n---"
    assert shown(rendered(text)).tags >= {
        "h1", "strong", "em", "s", "code", "ul", "li", "blockquote", "table", "th", "td", "hr",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        (
            r"So \(a*b*c\) and \[x_1\], $\alpha$ and $$y^2$$.",
            [r"\(a*b*c\)", r"\[x_1\]", r"$\alpha$", "$$y^2$$"],
        ),
        ("\\[\na\n- b\n\\]\nand\n$$\n<x>\n\ny\n$$", ["\\[\na\n- b\n\\]", "$$\n<x>\n\ny\n$$"]),
        ("It costs $5 or $10; $$20$$, US$5 and $HOME/bin:$PATH, `$x$`.", []),
        (r"Open \( and \[ and $a b", []),
    ],
)
def test_formulas_are_kept_whole_and_money_is_none(text: str, formulas: list[str]) -> None:
    html = rendered(text)
    found = re.findall(r'<(?:span|div) class="tt-math" dir="ltr">(.*?)</', html)
    assert [unescape(one).strip() for one in found] == formulas
    assert letters(shown(html).text) == letters(text.replace("`", ""))


def test_code_of_a_known_language_has_colours_and_every_character() -> None:
    code = 'def f(x):\n\treturn "<b>"  # <i>\n\n'
    html = rendered(f"```python\n{code}```")
    assert '<span class="tt-ck">def</span>' in html
    assert shown(html).text == "python" + code.removesuffix("\n")
    assert "<span" not in rendered(f"```nobody-knows\n{code}```")


def test_each_block_has_its_own_direction() -> None:
    html = rendered("Hello\n\nمرحبا\n\n- a\n\n| x |\n|---|\n| y |\n\n```py\nx\n```")
    assert html.count('<p dir="auto">') == 2
    assert '<li dir="auto">' in html
    assert '<table dir="auto">' in html
    assert '<div class="tt-code" dir="ltr">' in html


def test_link_shows_its_target() -> None:
    html = rendered('Read [the manual](https://example.org/x?a=1&b=2 "now").')
    assert '<a href="https://example.org/x?a=1&amp;b=2"' in html
    assert shown(html).text == 'Read the manual(https://example.org/x?a=1&b=2 "now").'


def test_a_table_that_would_drop_cells_is_shown_plain() -> None:
    text = "| a |\n|---|\n| 1 | 2 | 3 |"
    assert shown(rendered(text)).text == text


def test_what_is_nested_too_deep_is_shown_plain() -> None:
    text = "> " * 200 + "deep"
    assert shown(rendered(text)).text == text


def test_half_a_surrogate_pair_and_null_bytes_become_visible() -> None:
    html = rendered("a \ud83d b \0 c")
    assert html.encode()
    assert shown(html).text == r"a \ud83d b ␀ c"


def test_a_block_carries_the_text_that_it_was_made_from() -> None:
    text = 'One "two" <three>\n\n& four\n'
    assert source(rendered(text)) == source(plain(text)) == text
    assert source("<p>Hello</p>") is None


@pytest.mark.parametrize(
    "text", ["[" * MAX_CHARACTERS, "![a](" * 900, "*a " * 20_000, "a" * (MAX_CHARACTERS + 1)]
)
def test_text_made_to_be_slow_renders_in_time(text: str) -> None:
    began = time.thread_time()
    shown(rendered(text))
    assert time.thread_time() - began < 5


def test_bubbles_show_the_text_and_the_signature_outside_of_it() -> None:
    talk = Talk().said("Why <b>?\n\tTab").answered(Turn("assistant", "~~~py\na<b", "assistant@1"))
    said, answered = [message["content"][0]["text"] for message in talk.bubbles()]
    assert source(said) == "Why <b>?\n\tTab"
    assert letters(text_content(said)) == "Why<b>?Tab"
    assert answered.endswith('</code></pre></div></div><span class="tt-by">assistant@1</span>')


def test_a_conversation_to_rank_shows_every_character() -> None:
    rows = [{"role": "user", "content": "Write <algorithm> & <b>"}, {"role": "tool", "content": {"a": "<c>"}}]
    for as_written in (False, True):
        page = text_content(dialogue.messages(rows, as_written=as_written))
        assert "Write <algorithm> & <b>" in page
        assert '{"a": "<c>"}' in page


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_pieces_of_such_texts_in_a_sentence_are_shown_whole(pieces: list[str]) -> None:
    text = "So " + " ".join(piece.replace("`", "").replace("~", "").replace("\n", " ") for piece in pieces)
    page = shown(rendered(text))
    assert MARKS.sub("", page.text) == MARKS.sub("", text)


@settings(max_examples=300)
@given(st.text() | st.text(alphabet="<>/ab!&;\"'=\\`~*_#-+1.)|[](:\n\t $}{", max_size=80))
def test_any_text_at_all_is_shown_whole_and_harmless(text: str) -> None:
    page = shown(rendered(text))
    seen = text.replace("\0", "␀").encode("utf-8", "backslashreplace").decode()
    assert MARKS.sub("", page.text) == MARKS.sub("", seen)
    assert letters(shown(plain(text)).text) == letters(seen)
