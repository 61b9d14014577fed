"""Markdown as models write it, parsed so that every character that is not markup stays a character.

CommonMark with tables and strikethrough. What CommonMark would take away without showing it is text here: HTML,
entities, backslashes, pictures, link definitions, `__init__`, `a*b*c`, `/* … */`, `>>>`.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.blockquote import blockquote
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.emphasis import tokenize as emphasis
from markdown_it.rules_inline.image import image
from markdown_it.rules_inline.link import link

DESTINATION = "link_destination"
"""The token after a link: where it leads, as it was written."""

MATH, MATH_BLOCK = "math", "math_block"
"""Formulas in LaTeX, within a line or in lines of their own; the content has the delimiters."""

_LETTER = r"(?=[^$]{0,2000}?[A-Za-z\\^_=<>+])"
_FORMULA = re.compile(
    rf"\\\((?!\s*\\\)).{{1,2000}}?\\\)|\\\[(?!\s*\\\]).{{1,2000}}?\\\]|\$\${_LETTER}[^$]{{1,2000}}\$\$"
    rf"|\${_LETTER}(?![\s$])[^$`\n]{{0,500}}[^$`\s\\]\$(?![0-9A-Za-z$])",
    re.DOTALL,
)
"""`$` is money and shell, too: a formula has no space inside its dollars, and no letter or digit after them."""
_MATH_ENDS = {"$$": "$$", "\\[": "\\]"}
_MAX_MATH_LINES = 100

_SCHEMES = ("http", "https", "mailto")
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def parser() -> MarkdownIt:
    """Build the parser; it holds no state between two texts."""
    md = MarkdownIt("commonmark", {"html": False, "maxNesting": 40})
    md.enable(["table", "strikethrough"])
    md.disable(["html_block", "html_inline", "entity", "autolink", "reference", "lheading"])
    md.block.ruler.at("blockquote", _blockquote, {"alt": ["paragraph", "blockquote", "list"]})
    md.block.ruler.before("fence", MATH_BLOCK, _math_block, {"alt": ["paragraph", "blockquote", "list"]})
    md.inline.ruler.before("escape", MATH, _math)
    md.inline.ruler.at("emphasis", _emphasis)
    md.inline.ruler.at("escape", _escape)
    md.inline.ruler.at("newline", _newline)
    md.inline.ruler.at("image", _image)
    md.inline.ruler.at("link", _link)
    md.validateLink = is_link  # type: ignore[method-assign]
    return md


def is_link(url: str) -> bool:
    """Return whether a link may be followed: no scripts, files or pages of the platform itself."""
    try:
        return urlsplit(url).scheme.lower() in _SCHEMES
    except ValueError:
        return False


def _blockquote(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Take `> ` as a quotation, and not Python's `>>>` or a comparison without a space."""
    after = state.bMarks[start] + state.tShift[start] + 1
    if after < state.eMarks[start] and state.src[after] not in " \t":
        return False
    return blockquote(state, start, end, silent)


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Take a formula that stands in lines of its own as one, whatever else its lines look like."""
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    closing = _MATH_ENDS.get(first[:2])
    if closing is None:
        return False
    for line in range(start, min(end, start + _MAX_MATH_LINES)):
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
        inside = text[2:] if line == start else text
        if closing in inside:
            if not inside.endswith(closing) or inside.count(closing) > 1:
                return False
            break
    else:
        return False
    content = state.getLines(start, line + 1, state.blkIndent, False)
    if not _FORMULA.fullmatch(content.strip()):
        return False
    if not silent:
        state.line = line + 1
        state.push(MATH_BLOCK, "", 0).content = content
    return True


def _math(state: StateInline, silent: bool) -> bool:
    """Take a formula within a line as it stands: nothing in it is emphasis, a link or a line break."""
    if state.src[state.pos] not in "$\\" or state.src[max(0, state.pos - 1) : state.pos].isalnum():
        return False
    found = _FORMULA.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    if not silent:
        state.push(MATH, "", 0).content = found[0]
    state.pos = found.end()
    return True


def _emphasis(state: StateInline, silent: bool) -> bool:
    """Take asterisks around words as emphasis; those of products and comments, and all underscores, are text."""
    marker = state.src[state.pos]
    if marker not in "*_":
        return False
    end = state.pos
    while end < state.posMax and state.src[end] == marker:
        end += 1
    before = state.src[state.pos - 1 : state.pos]
    after = state.src[end : end + 1]
    in_word = _is_ascii_word(before) and _is_ascii_word(after)
    if marker == "_" or in_word or "/" in (before, after) or end - state.pos > 3:
        if not silent:
            state.pending += state.src[state.pos : end]
        state.pos = end
        return True
    return emphasis(state, silent)


def _is_ascii_word(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _escape(state: StateInline, silent: bool) -> bool:
    """Keep the backslash beside what it protects: `\\(`, `\\*` and Windows paths stay as they were written."""
    following = state.src[state.pos + 1 : state.pos + 2]
    if state.src[state.pos] != "\\" or state.pos + 1 >= state.posMax or following not in _PUNCTUATION:
        return False
    if not silent:
        state.pending += state.src[state.pos : state.pos + 2]
    state.pos += 2
    return True


def _newline(state: StateInline, silent: bool) -> bool:
    """Break the line where the text does, and keep the next line's indentation."""
    if state.src[state.pos] != "\n":
        return False
    if not silent:
        state.pending = state.pending.rstrip(" ")
        state.push("softbreak", "br", 0)
    state.pos += 1
    return True


def _image(state: StateInline, silent: bool) -> bool:
    """Show a picture's source: the picture itself would ask another host for it."""
    start = state.pos
    if not image(state, silent):
        return False
    if not silent:
        state.tokens.pop()
        state.pending += state.src[start : state.pos]
    return True


def _link(state: StateInline, silent: bool) -> bool:
    """Show where a link leads beside what it says."""
    start = state.pos
    if not link(state, silent):
        return False
    if not silent:
        label_end = state.md.helpers.parseLinkLabel(state, start, True)
        state.push(DESTINATION, "", 0).content = state.src[label_end + 1 : state.pos]
    return True


BARE_LINK = re.compile(r"https?://[^\s<>\"'`\\|()\[\]{}]*[^\s<>\"'`\\|()\[\]{}.,;:!?*]")
"""An address in running text, without the sentence's punctuation."""
