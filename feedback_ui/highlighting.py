"""Code with its words in colours, by Pygments; every character stays."""

from __future__ import annotations

from functools import lru_cache

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

from feedback_ui.html import one_line

MAX_CHARACTERS = 8_000
"""Longer code stays plain: it would hold up the streams of others."""
_COLOURED = ("k", "s", "m", "c", "n")
"""Groups of tokens by the first letter of their short name: keywords, strings, numbers, comments, names."""


def highlighted(code: str, language: str) -> str:
    """Return code as HTML on one line, coloured where its language is known."""
    lexer = _lexer(language) if len(code) <= MAX_CHARACTERS else None
    return one_line(code) if lexer is None else _coloured(code, language)


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=256)
def _coloured(code: str, language: str) -> str:
    lexer = _lexer(language)
    assert lexer is not None
    tokens = list(lexer.get_tokens(code))
    if "".join(text for _, text in tokens) != code:
        return one_line(code)
    return "".join(_span(STANDARD_TYPES.get(kind, ""), text) for kind, text in tokens)


def _span(name: str, text: str) -> str:
    group = name[:1]
    # of names, only those of functions and classes
    if group not in _COLOURED or (group == "n" and name not in ("nf", "nc", "nb", "nt")):
        return one_line(text)
    return f'<span class="tt-c{group}">{one_line(text)}</span>'
