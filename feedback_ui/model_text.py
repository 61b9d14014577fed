"""What models and people wrote, as HTML that shows every character of it. Chat and Rank both use this.

The HTML is one line, holds no attribute that loads anything, and is a single block that Markdown passes on untouched, so
that `gr.Chatbot` shows it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from html import unescape
from typing import Any

from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token

from feedback_ui import texts
from feedback_ui.highlighting import highlighted
from feedback_ui.html import clean, esc, one_line
from feedback_ui.markdown import BARE_LINK, DESTINATION, MATH, MATH_BLOCK, is_link, parser

MAX_CHARACTERS, MAX_BRACKETS = 60_000, 1_000
"""Characters and `[`: a text beyond is shown plain, for parsing it would hold up the streams of others."""

_MARKS = re.compile(r"[\s*~`#>|_:\-\[\]\\]+")
"""What Markdown may use up: these characters are not compared."""

_DIRECTED = frozenset(("p", "h1", "h2", "h3", "h4", "h5", "h6", "th", "td"))
"""Elements that say themselves in which direction they are read."""

_TAG = re.compile(r"<[^>]*>")
_REASONING = re.compile(r"\s*<think>(.*?)(?:</think>|\Z)", re.DOTALL)
_WRAPPED = re.compile(r'<div class="tt-text[^>]* data-source="([^"]*)"')


@lru_cache(maxsize=512)
def rendered(text: str) -> str:
    """Render Markdown as one block of HTML; where that would lose a character, the plain text."""
    text = clean(text)
    if len(text) > MAX_CHARACTERS or text.count("[") > MAX_BRACKETS:
        return _plain(text)
    html = _parts(text)
    return wrapped("tt-markdown", html, text) if _same(text, html) else _plain(text)


@lru_cache(maxsize=512)
def plain(text: str) -> str:
    """Show the text as it was written, markup and all."""
    return _plain(clean(text))


def source(html: str) -> str | None:
    """Return the text that a block made here was made from; None for anything else."""
    found = _WRAPPED.match(html)
    return unescape(found[1]) if found else None


def text_content(html: str) -> str:
    """Return what a browser shows of HTML made here, line breaks and blocks aside."""
    return unescape(_TAG.sub("", html))


def _plain(text: str) -> str:
    return wrapped("tt-plain", one_line(text), text)


def wrapped(kind: str, html: str, text: str) -> str:
    """Wrap HTML made here as one block that carries the text it was made from, which is what is copied."""
    return f'<div class="tt-text {kind}" dir="auto" data-source="{one_line(text)}">{html}</div>'


def _same(text: str, html: str) -> bool:
    return _MARKS.sub("", text) == _MARKS.sub("", text_content(html))


def _parts(text: str) -> str:
    """Set the reasoning before an answer apart from it, folded once it has ended."""
    thought = _REASONING.match(text)
    if not thought:
        return _markdown(text)
    closed = thought[0].endswith("</think>")
    unfolded, end = ("", esc("</think>")) if closed else (" open", "")
    inner = f"<summary>{esc('<think>')}</summary>{_markdown(thought[1])}<small>{end}</small>"
    return f'<details class="tt-reasoning"{unfolded}>{inner}</details>{_markdown(text[thought.end() :])}'


def _markdown(text: str) -> str:
    return str(_PARSER.render(text))


class _Renderer(RendererProtocol):
    """Tokens to HTML on one line; what Markdown draws by itself (numbers, bullets) is text here."""

    __output__ = "html"

    def __init__(self, _parser: object = None) -> None:
        pass

    def render(self, tokens: Sequence[Token], options: Any, env: Any) -> str:
        return "".join(self._block(token) for token in tokens)

    def _block(self, token: Token) -> str:
        kind = token.type
        if kind == "inline":
            return _inline(token.children or ())
        if kind in ("fence", "code_block"):
            return _code_block(token)
        if kind == MATH_BLOCK:
            return f'<div class="tt-math" dir="ltr">{one_line(token.content)}</div>'
        if kind == "hr":
            return "<hr>"
        if kind == "list_item_open":
            return f'<li dir="auto">{_marker(token)}<div>'
        if kind == "list_item_close":
            return "</div></li>"
        if token.hidden:  # the paragraphs of a tight list
            return '<div class="tt-line" dir="auto">' if token.nesting == 1 else "</div>"
        if kind == "table_open":
            return '<div class="tt-scroll"><table dir="auto">'
        if kind == "table_close":
            return "</table></div>"
        return _tag(token)


def _tag(token: Token) -> str:
    style = str(token.attrs.get("style", ""))
    aligned = f' style="{esc(style)}"' if style.startswith("text-align:") else ""
    # Each block by its own first letters: languages of both directions may follow one another.
    direction = ' dir="auto"' if token.tag in _DIRECTED else ""
    return f"</{token.tag}>" if token.nesting == -1 else f"<{token.tag}{direction}{aligned}>"


def _marker(item: Token) -> str:
    """Return a list's own number or bullet: a browser would count anew, and leave them out of what is copied."""
    mark = f"{item.info}{item.markup}"
    css = "tt-marker" if item.info or mark == "+" else "tt-marker tt-bullet"
    return f'<span class="{css}">{esc(mark)}</span> '


def _code_block(token: Token) -> str:
    info = token.info.strip()
    label = f'<div class="tt-code-label">{esc(info)}</div>' if info else ""
    code = token.content.removesuffix("\n")
    copy = f'<button type="button" class="tt-copy" title="{esc(texts.CODE_COPY)}"></button>'
    body = highlighted(code, info.split()[0].lower()) if info else one_line(code)
    return f'<div class="tt-code" dir="ltr">{label}{copy}<pre><code>{body}</code></pre></div>'


def _inline(tokens: Sequence[Token]) -> str:
    pieces, in_link = [], 0
    for token in tokens:
        if token.type == "link_open":
            pieces.append(_link_open(str(token.attrs.get("href", ""))))
        elif token.type == "text":
            pieces.append(esc(token.content) if in_link else _with_links(token.content))
        elif token.type == "code_inline":
            pieces.append(f"<code>{esc(token.content)}</code>")
        elif token.type == MATH:
            pieces.append(f'<span class="tt-math" dir="ltr">{one_line(token.content)}</span>')
        elif token.type in ("softbreak", "hardbreak"):
            pieces.append("<br>")
        elif token.type == DESTINATION:
            pieces.append(f'<span class="tt-destination">{one_line(token.content)}</span>')
        else:
            pieces.append(_tag(token))
        in_link += token.nesting if token.tag == "a" else 0
    return "".join(pieces)


def _with_links(text: str) -> str:
    pieces, at = [], 0
    for found in BARE_LINK.finditer(text):
        pieces.append(esc(text[at : found.start()]))
        url = found[0]
        pieces.append(f"{_link_open(url)}{esc(url)}</a>" if is_link(url) else esc(url))
        at = found.end()
    return "".join([*pieces, esc(text[at:])])


def _link_open(url: str) -> str:
    return f'<a href="{esc(url)}" target="_blank" rel="noopener noreferrer nofollow">'


_PARSER = parser()
_PARSER.renderer = _Renderer()
